"""Published sets: where they come from, where they lie, and what to say when they are not there.

Nothing is downloaded unless requested.
"""

from __future__ import annotations

import hashlib
import platform
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import download_url

from experiments.images.errors import ImageSetError


@dataclass(frozen=True)
class PublishedSet:
    """A set that can be downloaded as one archive.

    Args:
        url: Address of the archive.
        checksum: Of the archive, after the name of the algorithm and a colon, as others have published it. SHA-256
            notices an attack; MD5, where nobody has published another, accidents alone.
        folder: What the archive unpacks to.
        other_folders: Where else the set may lie below the root.
    """

    url: str
    checksum: str
    folder: str
    other_folders: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.url} ({self.checksum})"


def _fast_ai(folder: str, checksum: str) -> PublishedSet:
    return PublishedSet(f"https://s3.amazonaws.com/fast-ai-imageclas/{folder}.tgz", checksum, folder)


# SHA-256 of ImageNette and of the smaller ImageWoof: FastAI.jl (src/datasets/fastaidatasets.jl); of CIFAR-10: Keras.
# MD5 of ImageWoof: the package Catalyst (catalyst/contrib/datasets/imagewoof.py), whose checksums of ImageNette agree
# with torchvision's.
PUBLISHED_SETS = {
    "imagenette": _fast_ai("imagenette2", "sha256:6cbfac238434d89fe99e651496f0812ebc7a10fa62bd42d6874042bf01de4efd"),
    "imagenette-320": _fast_ai(
        "imagenette2-320", "sha256:569b4497c98db6dd29f335d1f109cf315fe127053cedf69010d047f0188e158c"
    ),
    "imagenette-160": _fast_ai(
        "imagenette2-160", "sha256:64d0c4859f35a461889e0147755a999a48b49bf38a7e0f9bd27003f10db02fe5"
    ),
    "imagewoof": _fast_ai("imagewoof2", "md5:9aafe18bcdb1632c4249a76c458465ba"),
    "imagewoof-320": _fast_ai("imagewoof2-320", "md5:0f46d997ec2264e97609196c95897a44"),
    "imagewoof-160": _fast_ai(
        "imagewoof2-160", "sha256:663c22f69c2802d85e2a67103c017e047096702ffddf9149a14011b7002539bf"
    ),
    "cifar10": PublishedSet(
        CIFAR10.url,
        "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        CIFAR10.base_folder,
        ("cifar10", "cifar10-jpeg"),
    ),
}


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
    folders = [root / folder for folder in (published.folder, *published.other_folders)]
    for folder in folders:
        if folder.is_dir():
            return folder
    if not download:
        raise ImageSetError(
            f"{name}: expected the folder {' or '.join(map(str, folders))}, but there is none. Fetch it with "
            f"--download, or unpack {published} in {root}"
        )
    try:
        _fetch(published, root)
    except (OSError, HTTPException, RuntimeError, EOFError, tarfile.TarError, zlib.error, ValueError) as error:
        raise ImageSetError(f"{name}: cannot download {published} to {root}: {error}") from error
    return folders[0]


def _fetch(published: PublishedSet, root: Path) -> None:
    """Fetch, check and unpack in a folder of its own; only what is complete is moved to its place."""
    if not hasattr(tarfile, "data_filter"):  # without which an archive could write anywhere
        version = platform.python_version()
        raise ValueError(f"unpacking safely needs Python 3.11.4 or newer, got {version}; fetch and unpack it yourself")
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".download-{published.folder}-", dir=root) as working:
        download_url(published.url, working, "archive")
        archive = Path(working) / "archive"
        algorithm, expected = published.checksum.split(":")
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
        if found != expected:
            raise ValueError(f"expected the checksum {published.checksum}, got {found}")
        with tarfile.open(archive) as packed:
            packed.extractall(working, filter="data")  # nothing outside the folder, no devices, no odd permissions
        unpacked = Path(working) / published.folder
        if not unpacked.is_dir():
            others = ", ".join(sorted(path.name for path in Path(working).iterdir() if path != archive))
            raise ValueError(f"expected it to unpack to a folder {published.folder}, got {others}")
        place = root / published.folder
        try:
            unpacked.rename(place)
        except OSError:
            if not place.is_dir():  # else another process has brought the set meanwhile
                raise
