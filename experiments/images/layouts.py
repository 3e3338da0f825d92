"""How images lie in folders: split folders, class folders, or one flat folder.

    folder/{train,val}/<class>/…/*.jpg     the parts of a set, with labels (ImageNet, ImageNette, ImageWoof)
    folder/{train,val}/*.jpg               the parts of a set, without labels
    folder/<class>/…/*.jpg                 one part, with labels
    folder/*.jpg                           one part, without labels

Folders are split folders where one has a name of a training part, and another one of a held-out part or all have such
names. Names count in any case and with usual endings: Train, training_set, val2017. The class of an image is the name
of the outermost folder below the part; folders deeper down belong to the same class, images beside class folders have
no class, and folders without images are no classes. The classes of a set are those of all its parts, so that a class
has the same number in each. Links are followed.

Left out are files and folders whose names begin with a dot (among them are macOS's copies of metadata, which are named
like images), folders that systems make for themselves (with thumbnails named like images), and every file without a
known suffix. What was found and what was left out is said on standard error.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import torch

from experiments.images.errors import ImageSetError, MissingSplitError
from experiments.images.image_sets import UNLABELLED, FileSource, ImageSet, valid_text

Split = Literal["train", "val", "all"]

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
)  # in lower case
TRAINING_FOLDERS = ("train", "training")
VALIDATION_FOLDERS = ("val", "validation", "valid", "dev", "eval", "evaluation", "test", "testing")
"""The first that is there is the part "val"; "all" has all of them."""
SYSTEM_FOLDERS = frozenset({"@eadir", "__macosx", "#recycle", "$recycle.bin", "lost+found", "__pycache__"})

_ENDINGS = re.compile(r"([-_ ]*(set|data|images?|imgs?|split|\d+))+$")
_LISTED = 10


def find_images(folder: Path, split: Split, *, name: str | None = None, **options: Any) -> ImageSet:
    """List the images of a folder, sorted by path; none is opened.

    A folder without split folders is the training part.

    Args:
        folder: The folder.
        split: "train", "val", or "all" for everything there is.
        name: What to call the set in messages; by default the path.
        **options: As for `FileSource`.

    Raises:
        MissingSplitError: If the folder has no such part.
        ImageSetError: If there is no such folder, it cannot be read, no image lies in it, or it has two training parts.

    Example:
        >>> import sklearn.datasets
        >>> images = find_images(Path(sklearn.datasets.__file__).parent / "images", "train")
        >>> len(images), images.labels.tolist(), images.class_names
        (2, [-1, -1], ())
    """
    if not folder.is_dir():
        raise ImageSetError(f"{folder}: expected a folder of images, got {'a file' if folder.exists() else 'nothing'}")
    left_out: Counter[str] = Counter()
    training, held_out = _parts(folder, left_out)
    chosen = {"train": training, "val": held_out[:1], "all": training + held_out}[split]
    if not chosen:
        expected = " or ".join(TRAINING_FOLDERS if split == "train" else VALIDATION_FOLDERS)
        present = ", ".join(part.name for part in training + held_out if part != folder) or "no split folders"
        raise MissingSplitError(f"{folder}: expected a folder named {expected} in it, got {present}")

    files = {part: _images(part, left_out) for part in training + held_out}
    class_names = tuple(sorted({inner[0] for found in files.values() for inner in found if len(inner) > 1}))
    numbers = {class_name: number for number, class_name in enumerate(class_names)}
    paths = [str(part.joinpath(*inner).relative_to(folder)) for part in chosen for inner in files[part]]
    labels = [numbers[inner[0]] if len(inner) > 1 else UNLABELLED for part in chosen for inner in files[part]]
    if not paths:
        others = sum(count for kind, count in left_out.items() if not kind.endswith("/"))
        found = f"{others} other files" if others else "nothing"
        expected = f"{' and '.join(map(str, chosen))}: expected images ({', '.join(sorted(SUFFIXES))})"
        raise ImageSetError(f"{expected}, got {found}")
    source = FileSource(folder, paths, **options)
    named = tuple(map(valid_text, class_names))
    images = ImageSet(name or str(folder), source, torch.tensor(labels, dtype=torch.int64), named)
    unused = [f"{part.name} ({len(found):,})" for part, found in files.items() if part not in chosen]
    print(_report(images, [part.name for part in chosen if part != folder], unused, left_out), file=sys.stderr)
    return images


def _report(images: ImageSet, parts: list[str], unused: list[str], left_out: Counter[str]) -> str:
    """What was found, in a line."""
    counts = Counter(images.labels.tolist())
    classes = [f"{class_name} {counts[number]:,}" for number, class_name in enumerate(images.class_names)]
    classes += [f"without a class {counts[UNLABELLED]:,}"] if images.class_names and counts[UNLABELLED] else []
    text = f"{images.name}: {len(images):,} images"
    text += f" in {' and '.join(parts)}" if parts else ""
    text += f" of {len(images.class_names):,} classes ({_first(classes)})" if classes else ", no class folders"
    text += f"; not used here: {', '.join(unused)}" if unused else ""
    kinds = [f"{count:,} {kind}" for kind, count in left_out.most_common()]
    return text + (f"; left out, being no images: {_first(kinds)}" if kinds else "")


def _first(texts: list[str]) -> str:
    return ", ".join(texts[:_LISTED]) + (", …" if len(texts) > _LISTED else "")


def _parts(folder: Path, left_out: Counter[str]) -> tuple[list[Path], list[Path]]:
    """Folders to train on and those held out; the folder itself is the training part where it is not split."""
    entries = _entries(folder)
    plain = {entry.name: _ENDINGS.sub("", entry.name.lower()) for entry in entries if _is_folder(entry)}
    training = [folder / name for name in plain if plain[name] in TRAINING_FOLDERS]
    ordered = sorted(plain, key=lambda name: (*VALIDATION_FOLDERS, plain[name]).index(plain[name]))
    held_out = [folder / name for name in ordered if plain[name] in VALIDATION_FOLDERS]
    known = {part.name for part in training + held_out}
    others = plain.keys() - known - {name for name in plain if name.lower() in SYSTEM_FOLDERS}
    if not known or ((not held_out or not training) and others):
        return [folder], []
    if len(training) > 1:
        raise ImageSetError(f"{folder}: expected one training part, got {', '.join(part.name for part in training)}")
    for entry in entries:
        if entry.name not in known:
            left_out[f"{entry.name}/" if entry.name in plain else "files beside the split folders"] += 1
    return training, held_out


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, sorted by name, without what is hidden."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise ImageSetError(f"{folder}: expected a folder that can be read, got: {error.strerror}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _images(part: Path, left_out: Counter[str]) -> list[tuple[str, ...]]:
    """Sorted paths of all images below a folder, as parts; a link back to a folder above is not followed for ever."""
    found: list[tuple[str, ...]] = []
    folders: list[tuple[str, tuple[str, ...], frozenset[object]]] = [(str(part), (), frozenset({_identity(part)}))]
    while folders:
        folder, names, above = folders.pop()
        for entry in _entries(folder):
            if _is_folder(entry):
                if entry.name.lower() in SYSTEM_FOLDERS:
                    left_out[f"{entry.name}/"] += 1
                elif _identity(entry) not in above:
                    folders.append((entry.path, (*names, entry.name), above | {_identity(entry)}))
            elif Path(entry.name).suffix.lower() not in SUFFIXES:
                left_out[Path(entry.name).suffix or "without a suffix"] += 1
            elif entry.is_symlink() or entry.is_file():  # a link to nothing is a file that cannot be read; a pipe none
                found.append((*names, entry.name))
    return sorted(found)


def _identity(folder: Path | os.DirEntry[str]) -> object:
    status = folder.stat()
    return status.st_dev, status.st_ino
