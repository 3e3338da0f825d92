"""The one way to a set of images, by name or by folder: found or downloaded, checked, and ready to read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import CIFAR10

from experiments.images import digits
from experiments.images.checking import check_images
from experiments.images.decoding import MAX_PIXELS, allow_pixels
from experiments.images.downloads import PUBLISHED_SETS, locate
from experiments.images.errors import ImageSetError
from experiments.images.image_sets import ArraySource, ImageSet
from experiments.images.layouts import Split, find_images

DIGITS = "digits"


def open_images(
    name_or_folder: str | Path,
    root: str | Path,
    split: Split,
    *,
    channels: int = 3,
    max_pixels: int = MAX_PIXELS,
    download: bool = False,
    skip_broken: bool = False,
    cache_folder: str | Path | None = None,
    threads: int | None = None,
) -> ImageSet:
    """Open a part of a set of images, after every image of it was decoded once.

    A known name comes first: imagenette, imagenette-320, imagenette-160, imagewoof, imagewoof-320, imagewoof-160,
    cifar10 (all below `root`), and digits. Anything else is a folder, as given or below `root`, in one of the layouts
    of `experiments.images.layouts`; `./digits` is the folder of that name. A ~ stands for the home folder.

    Args:
        name_or_folder: Name of a known set, or a folder of images.
        root: The folder that known sets lie in, or are downloaded to.
        split: "train", "val", or "all" for everything there is.
        channels: Of image files: 3, or 1 to read them as grey. Sets that are arrays keep their own.
        max_pixels: Height times width of the largest image that is decoded.
        download: Fetch a known set that is not there.
        skip_broken: Leave out images that cannot be read, listing them; `ImageSet.skipped` counts them.
        cache_folder: A folder to remember in that the files were checked, while they do not change. By default every
            start checks again. Nothing is ever written to the folder of the images.
        threads: Number of threads that check.

    Returns:
        The images in an order that does not depend on the file system.

    Raises:
        MissingSplitError: If the set is there, but not the split.
        ImageSetError: If the set is missing, empty, or holds no images, or images cannot be read and are not skipped.

    Example:
        >>> train = open_images("digits", "data", "train")
        >>> len(train), train.channels, train.read(0).size, train.class_names[-1]
        (1347, 1, (16, 16), '9')
    """
    if split not in {"train", "val", "all"}:
        raise ValueError(f"split must be 'train', 'val' or 'all', got {split!r}")
    root = Path(root).expanduser()
    allow_pixels(max_pixels)
    name, folder = None, None
    if name_or_folder in PUBLISHED_SETS:
        name = f"{name_or_folder} ({split})"
        folder = locate(str(name_or_folder), root, download=download)
    if name_or_folder == DIGITS:
        images = _digits(split)
    elif folder is not None and folder.name == CIFAR10.base_folder:
        images = _cifar10(folder, split)
    else:
        folder = folder or _existing_folder(name_or_folder, root)
        images = find_images(folder, split, name=name, channels=channels, max_pixels=max_pixels)
        images = images if name is None else replace(images, class_names=_in_words(images.class_names))
    return check_images(images, skip_broken=skip_broken, cache_folder=cache_folder, threads=threads)


def _in_words(wordnet_numbers: tuple[str, ...]) -> tuple[str, ...]:
    """Names of classes whose folders are called by their numbers in WordNet: the first of the synonyms."""
    from timm.data.imagenet_info import ImageNetInfo  # noqa: PLC0415  # takes seconds to import

    known = ImageNetInfo()
    words = dict(zip(known.label_names(), known.label_descriptions(detailed=False), strict=True))
    return tuple(words.get(number, number).split(", ")[0] for number in wordnet_numbers)


def _existing_folder(given: str | Path, root: Path) -> Path:
    if str(given) == "":
        raise ImageSetError("expected the name of a set or a folder of images, got nothing")
    # An absolute path stays itself below any root.
    places = [Path(given).expanduser(), root / Path(given).expanduser()]
    for folder in places:
        if folder.exists():
            return folder
    known = ", ".join([*PUBLISHED_SETS, DIGITS])
    tried = " or ".join(dict.fromkeys(str(folder.absolute()) for folder in places))
    raise ImageSetError(f"{given}: expected a known set ({known}) or a folder, but there is no {tried}")


def _digits(split: Split) -> ImageSet:
    """Scikit-learn's digits, grey, enlarged to 16 × 16 and rounded to 8 bits."""
    train, val = digits.load()
    parts = {"train": [train], "val": [val], "all": [train, val]}[split]
    images = torch.cat([part.images for part in parts])
    pixels = (255 * images).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    labels = torch.cat([part.labels for part in parts]).long()
    return ImageSet(f"{DIGITS} ({split})", ArraySource(pixels), labels, tuple(map(str, range(10))))


def _cifar10(folder: Path, split: Split) -> ImageSet:
    """CIFAR-10 as its authors publish it, in Python's pickles, whose checksums torchvision verifies before it reads."""
    try:
        parts = [CIFAR10(folder.parent, train=part == "train") for part in ("train", "val") if split in {part, "all"}]
    except (RuntimeError, OSError) as error:
        raise ImageSetError(
            f"cifar10: expected the files of the published archive in {folder}, with their checksums, got: {error}"
        ) from error
    pixels = np.concatenate([part.data for part in parts])
    labels = torch.tensor([label for part in parts for label in part.targets])
    return ImageSet(f"cifar10 ({split})", ArraySource(pixels), labels, tuple(parts[0].classes))
