"""How images lie in folders: split folders, class folders, or one flat folder.

    folder/{train,val}/<class>/…/*.jpg     the parts of a set, with labels (ImageNet, ImageNette, ImageWoof)
    folder/{train,val}/*.jpg               the parts of a set, without labels
    folder/<class>/…/*.jpg                 one part, with labels
    folder/*.jpg                           one part, without labels

Folders are split folders where one is called "train", and another has a name of a validation part or all have such
names. The class of an image is the name of the outermost folder below the part; folders deeper down belong to the same
class, images beside class folders have no class, and folders without images are no classes. The classes of a set are
those of all its parts, so that a class has the same number in each. Files and folders whose names begin with a dot are
left out (among them are macOS's copies of metadata, which are named like images), and so is every file without a known
suffix. Links are followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch

from experiments.images.errors import ImageSetError, MissingSplitError
from experiments.images.image_sets import UNLABELLED, FileSource, ImageSet

Split = Literal["train", "val", "all"]

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
)  # in lower case
TRAINING_FOLDER = "train"
VALIDATION_FOLDERS = ("val", "validation", "valid", "test")  # the first that is there counts


def find_images(folder: Path, split: Split, *, name: str | None = None) -> ImageSet:
    """List the images of a folder, sorted by path; none is opened.

    A folder without split folders is the training part.

    Args:
        folder: The folder.
        split: "train", "val", or "all" for everything there is.
        name: What to call the set in messages; by default the path.

    Raises:
        MissingSplitError: If the folder has no such part.
        ImageSetError: If there is no such folder, it cannot be read, or no image lies in it.

    Example:
        >>> import sklearn.datasets
        >>> images = find_images(Path(sklearn.datasets.__file__).parent / "images", "train")
        >>> len(images), images.labels.tolist(), images.class_names
        (2, [-1, -1], ())
    """
    if split not in {"train", "val", "all"}:
        raise ValueError(f"split must be 'train', 'val' or 'all', got {split!r}")
    if not folder.exists():
        raise ImageSetError(f"{folder}: expected a folder of images, but there is nothing")
    if not folder.is_dir():
        raise ImageSetError(f"{folder}: expected a folder of images, got a file")
    parts = _parts(folder)
    chosen = list(parts.values()) if split == "all" else [parts[split]] if split in parts else []
    if not chosen:
        expected = TRAINING_FOLDER if split == "train" else " or ".join(VALIDATION_FOLDERS)
        present = ", ".join(sorted(path.name for path in parts.values() if path != folder)) or "no split folders"
        raise MissingSplitError(f"{folder}: expected a folder named {expected} in it, got {present}")

    class_names = sorted({name for part in parts.values() for name in _class_names(part)})
    numbers = {class_name: number for number, class_name in enumerate(class_names)}
    paths, labels, ignored = [], [], 0
    for part in chosen:
        for inner in _files(part):
            if not _named_like_an_image(inner[-1]):
                ignored += 1
                continue
            paths.append(str(part.joinpath(*inner).relative_to(folder)))
            labels.append(numbers[inner[0]] if len(inner) > 1 else UNLABELLED)
    if not paths:
        where = " and ".join(str(part) for part in chosen)
        raise ImageSetError(
            f"{where}: expected images ({', '.join(sorted(SUFFIXES))}), got "
            + (f"{ignored} other files" if ignored else "nothing")
        )
    return ImageSet(
        name or str(folder), FileSource(folder, paths), torch.tensor(labels, dtype=torch.int64), tuple(class_names)
    )


def _parts(folder: Path) -> dict[str, Path]:
    """Folders of the parts that there are; the folder itself is the training part where it is not split."""
    inner = {entry.name for entry in _entries(folder) if entry.is_dir()}
    validation = next((name for name in VALIDATION_FOLDERS if name in inner), None)
    if TRAINING_FOLDER in inner and (validation is not None or inner == {TRAINING_FOLDER}):
        parts = {"train": folder / TRAINING_FOLDER}
    elif inner and inner <= set(VALIDATION_FOLDERS):
        parts = {}
    else:
        return {"train": folder}
    if validation is not None:
        parts["val"] = folder / validation
    return parts


def _class_names(part: Path) -> list[str]:
    """Folders of a part that an image lies in, however deep."""
    folders = [entry.name for entry in _entries(part) if entry.is_dir()]
    return [name for name in folders if any(_named_like_an_image(inner[-1]) for inner in _files(part / name))]


def _named_like_an_image(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, sorted by name, without what is hidden."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise ImageSetError(f"{folder}: expected a folder that can be read, got: {error.strerror}") from error


def _files(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[tuple[str, ...]]:
    """Paths of all files below a folder, as parts; a link back to a folder above is not followed for ever."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in _entries(folder):
        if entry.is_dir():
            for inner in _files(folder / entry.name, above | {here}):
                yield (entry.name, *inner)
        elif entry.is_file() or entry.is_symlink():  # a link to nothing is a file that cannot be read; a pipe is none
            yield (entry.name,)
