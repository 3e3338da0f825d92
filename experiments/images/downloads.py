"""Published sets: where they come from, where they lie, and what to say when they are not there.

Nothing is fetched unless it is asked for.
"""

from __future__ import annotations

import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import download_and_extract_archive

from experiments.images.errors import ImageSetError

_FAST_AI = "https://s3.amazonaws.com/fast-ai-imageclas"
# The checksums of ImageNette are torchvision's. torchvision has no ImageWoof; its checksums are those of the package
# Catalyst (catalyst/contrib/datasets/imagewoof.py), whose checksums of ImageNette agree with torchvision's.
_CATALYST = "as the package Catalyst records it; torchvision knows none"


@dataclass(frozen=True)
class PublishedSet:
    """A set that can be downloaded as one archive.

    Args:
        url: Address of the archive.
        md5: Its checksum.
        folder: What the archive unpacks to.
        other_folders: Where else the set may lie below the root.
        checksum_source: A remark on the checksum.
    """

    url: str
    md5: str
    folder: str
    other_folders: tuple[str, ...] = ()
    checksum_source: str = "as torchvision records it"


PUBLISHED_SETS = {
    "imagenette": PublishedSet(f"{_FAST_AI}/imagenette2.tgz", "fe2fc210e6bb7c5664d602c3cd71e612", "imagenette2"),
    "imagenette-320": PublishedSet(
        f"{_FAST_AI}/imagenette2-320.tgz", "3df6f0d01a2c9592104656642f5e78a3", "imagenette2-320"
    ),
    "imagenette-160": PublishedSet(
        f"{_FAST_AI}/imagenette2-160.tgz", "e793b78cc4c9e9a4ccc0c1155377a412", "imagenette2-160"
    ),
    "imagewoof": PublishedSet(
        f"{_FAST_AI}/imagewoof2.tgz", "9aafe18bcdb1632c4249a76c458465ba", "imagewoof2", checksum_source=_CATALYST
    ),
    "imagewoof-320": PublishedSet(
        f"{_FAST_AI}/imagewoof2-320.tgz",
        "0f46d997ec2264e97609196c95897a44",
        "imagewoof2-320",
        checksum_source=_CATALYST,
    ),
    "imagewoof-160": PublishedSet(
        f"{_FAST_AI}/imagewoof2-160.tgz",
        "3d200a7be99704a0d7509be2a9fbfe15",
        "imagewoof2-160",
        checksum_source=_CATALYST,
    ),
    "cifar10": PublishedSet(CIFAR10.url, CIFAR10.tgz_md5, CIFAR10.base_folder, ("cifar10", "cifar10-jpeg")),
}

WORDNET_NAMES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
    "n02086240": "Shih-Tzu",
    "n02087394": "Rhodesian ridgeback",
    "n02088364": "beagle",
    "n02089973": "English foxhound",
    "n02093754": "Border terrier",
    "n02096294": "Australian terrier",
    "n02099601": "golden retriever",
    "n02105641": "Old English sheepdog",
    "n02111889": "Samoyed",
    "n02115641": "dingo",
}
"""Names of ImageNette's and ImageWoof's classes, whose folders are called by their numbers in WordNet."""


def locate(name: str, root: Path, *, download: bool = False) -> Path:
    """Find the folder of a published set below a root; fetch it if it is not there and this is asked for.

    Args:
        name: A key of `PUBLISHED_SETS`.
        root: The folder that sets lie in.
        download: Whether to fetch it.

    Raises:
        ImageSetError: If the set is not there, with what to put where; or if it cannot be fetched, with the reason.
    """
    published = PUBLISHED_SETS[name]
    for folder in (published.folder, *published.other_folders):
        if (root / folder).is_dir():
            return root / folder
    if not download:
        places = " or ".join(str(root / folder) for folder in (published.folder, *published.other_folders))
        raise ImageSetError(
            f"{name}: expected the folder {places}, but there is none. Fetch it with --download, or unpack "
            f"{published.url} (MD5 {published.md5}, {published.checksum_source}) in {root}"
        )
    _fetch(name, published, root)
    return root / published.folder


def _fetch(name: str, published: PublishedSet, root: Path) -> None:
    """Fetch, check and unpack in a folder of its own; only what is complete is moved to its place."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".download-{published.folder}-", dir=root) as working:
            download_and_extract_archive(published.url, working, md5=published.md5)
            unpacked = Path(working) / published.folder
            if unpacked.is_dir():
                unpacked.rename(root / published.folder)
                return
            found = sorted(path.name for path in Path(working).iterdir())
    except (OSError, HTTPException, RuntimeError, EOFError, tarfile.TarError, zlib.error) as error:
        raise ImageSetError(
            f"{name}: cannot download {published.url} (MD5 {published.md5}, {published.checksum_source}) to {root}: "
            f"{error}"
        ) from error
    raise ImageSetError(
        f"{name}: expected {published.url} to unpack to a folder {published.folder}, got {', '.join(found)}"
    )
