from __future__ import annotations

import hashlib
import pickle
import shutil
import tarfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, Imagenette
from torchvision.datasets.utils import download_url

from experiments.images import digits
from experiments.images.downloads import PUBLISHED_SETS, PublishedSet, locate
from experiments.images.errors import ImageSetError, MissingSplitError
from experiments.images.image_sets import ImageSet
from experiments.images.opening import open_images

unpacks = pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="Python before 3.11.4")

Save = Callable[..., Path]


@pytest.fixture
def imagenette(tmp_path: Path, save_image: Save) -> Path:
    """A root with ImageNette's layout, two images in each of two classes and one in the validation part."""
    for name in ("train/n01440764/a", "train/n01440764/b", "train/n03888257/c", "train/n03888257/d", "val/n03888257/e"):
        save_image(tmp_path / "imagenette2-160" / f"{name}.JPEG")
    return tmp_path


@pytest.fixture(autouse=True)
def files_have_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision asks a response for its length, which those to file:// addresses lack, unlike those to https://."""
    urlopen = urllib.request.urlopen

    def with_length(request: Any) -> Any:
        response = urlopen(request)
        response.length = int(response.headers["Content-Length"])
        return response

    monkeypatch.setattr(urllib.request, "urlopen", with_length)


def publish(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    archive: Path,
    folder: str,
    checksum: str | None = None,
) -> None:
    """Let a published set come from a local archive."""
    checksum = checksum or f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    monkeypatch.setitem(PUBLISHED_SETS, name, PublishedSet(archive.as_uri(), checksum, folder))


def pack(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    return archive


def test_a_published_set_is_read_as_torchvision_reads_it(imagenette: Path) -> None:
    for split, count in (("train", 4), ("val", 1)):
        images = open_images("imagenette-160", imagenette, split)  # type: ignore[arg-type]
        theirs = Imagenette(imagenette, split, "160px")
        assert len(images) == count == len(theirs)
        for index in range(count):
            image, _ = theirs[index]
            assert np.array_equal(np.asarray(images.read(index)), np.asarray(image))
            assert images.location(index) == theirs._samples[index][0]
    assert images.class_names == ("tench", "parachute")
    assert images.labels.tolist() == [1]


def test_the_same_folder_can_be_opened_by_its_path(imagenette: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(imagenette)
    for given, root in (
        (imagenette / "imagenette2-160", "nowhere"),
        ("imagenette2-160", "nowhere"),
        (imagenette / "imagenette2-160", imagenette),
    ):
        assert open_images(given, root, "train").labels.tolist() == [0, 0, 1, 1]
    monkeypatch.chdir("/")
    assert len(open_images("imagenette2-160", imagenette, "all")) == 5


def test_broken_images_stop_the_opening_or_are_skipped(imagenette: Path) -> None:
    (imagenette / "imagenette2-160/train/n01440764/a.JPEG").write_bytes(b"")
    with pytest.raises(ImageSetError, match=r"imagenette-160 \(train\): 1 of 4 .*\n.*a\.JPEG: the file is empty"):
        open_images("imagenette-160", imagenette, "train")
    images = open_images("imagenette-160", imagenette, "train", skip_broken=True)
    assert (len(images), images.skipped, images.labels.tolist()) == (3, 1, [0, 1, 1])


@pytest.mark.parametrize("name", sorted(PUBLISHED_SETS))
def test_a_missing_set_says_what_to_put_where(tmp_path: Path, name: str) -> None:
    published = PUBLISHED_SETS[name]
    with pytest.raises(ImageSetError) as raised:
        open_images(name, tmp_path, "train")
    for part in (str(tmp_path / published.folder), "--download", published.url, published.checksum):
        assert part in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_addresses_are_those_of_torchvision() -> None:
    for size, name in (("full", "imagenette"), ("320px", "imagenette-320"), ("160px", "imagenette-160")):
        assert PUBLISHED_SETS[name].url == Imagenette._ARCHIVES[size][0]
    assert PUBLISHED_SETS["cifar10"].url == CIFAR10.url


@unpacks
def test_a_download_is_checked_unpacked_and_not_repeated(
    imagenette: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(imagenette / "imagenette2-160", tmp_path / "published.tgz")
    publish(monkeypatch, "imagenette-160", archive, "imagenette2-160")
    root = tmp_path / "new" / "root"
    images = open_images("imagenette-160", root, "train", download=True)
    assert len(images) == 4
    assert [path.name for path in root.iterdir()] == ["imagenette2-160"]
    archive.unlink()
    assert len(open_images("imagenette-160", root, "train", download=True)) == 4


@unpacks
def test_a_set_that_another_download_brings_meanwhile_is_taken(
    imagenette: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(imagenette / "imagenette2-160", tmp_path / "published.tgz")
    publish(monkeypatch, "imagenette-160", archive, "imagenette2-160")
    root = tmp_path / "root"

    def fetch_while_another_does(*arguments: Any) -> None:
        download_url(*arguments)
        shutil.copytree(imagenette / "imagenette2-160", root / "imagenette2-160")

    monkeypatch.setattr("experiments.images.downloads.download_url", fetch_while_another_does)
    assert len(open_images("imagenette-160", root, "train", download=True)) == 4
    assert [path.name for path in root.iterdir()] == ["imagenette2-160"]


def test_a_python_that_cannot_unpack_safely_downloads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    with pytest.raises(ImageSetError, match=r"needs Python 3\.11\.4 or newer, got \d+\.\d+\.\d+"):
        open_images("imagenette-160", tmp_path / "root", "train", download=True)
    assert not any(tmp_path.iterdir())


@unpacks
@pytest.mark.parametrize("fault", ["md5", "sha256", "escape", "address", "cut", "other content", "no archive"])
def test_a_failed_download_names_the_reason_and_leaves_nothing(
    imagenette: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    archive = pack(imagenette / "imagenette2-160", tmp_path / "published.tgz")
    if fault == "cut":
        archive.write_bytes(archive.read_bytes()[:-200])
    if fault == "escape":
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(imagenette / "imagenette2-160", "../outside")
    if fault == "no archive":
        archive.write_bytes(b"<html>moved</html>")
    folder = "elsewhere" if fault == "other content" else "imagenette2-160"
    checksum = {"md5": f"md5:{'0' * 32}", "sha256": f"sha256:{'0' * 64}"}.get(fault)
    publish(monkeypatch, "imagenette-160", archive, folder, checksum)
    if fault == "address":
        archive.unlink()
    root = tmp_path / "root"
    with pytest.raises(ImageSetError, match=r"imagenette-160: .*published\.tgz"):
        open_images("imagenette-160", root, "train", download=True)
    assert list(root.iterdir()) == []
    assert not (tmp_path / "outside").exists()


def test_a_root_that_cannot_be_written_is_named(imagenette: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(imagenette / "imagenette2-160", imagenette / "published.tgz")
    publish(monkeypatch, "imagenette-160", archive, "imagenette2-160")
    with pytest.raises(ImageSetError, match=r"cannot download .* to .*published\.tgz/root"):
        locate("imagenette-160", archive / "root", download=True)


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A root with CIFAR-10's files, 3 images in each; returns the pixels as (images, height, width, channels)."""
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (18, 3, 32, 32), dtype=np.uint8)

    def write(name: str, content: object) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()

    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    checksums = [
        [name, write(name, {"data": pixels[3 * part : 3 * part + 3].reshape(3, -1), "labels": [0, part, 9]})]
        for part, name in enumerate(names)
    ]
    label_names = [f"class {number}" for number in range(10)]
    meta = write("batches.meta", {"label_names": label_names})
    monkeypatch.setattr(CIFAR10, "train_list", checksums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", checksums[5:])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": meta})
    return pixels.transpose(0, 2, 3, 1)


def test_cifar10_is_read_from_its_published_files(cifar10: np.ndarray, tmp_path: Path) -> None:
    train, val, everything = (open_images("cifar10", tmp_path, split) for split in ("train", "val", "all"))
    assert [len(train), len(val), len(everything)] == [15, 3, 18]
    assert val.labels.tolist() == [0, 5, 9]
    for index in range(18):
        assert np.array_equal(np.asarray(everything.read(index)), cifar10[index])
    assert train.class_names[3] == "class 3"


def test_cifar10_with_a_changed_file_is_refused_before_it_is_read(cifar10: np.ndarray, tmp_path: Path) -> None:
    assert len(cifar10) == 18
    with (tmp_path / CIFAR10.base_folder / "test_batch").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ImageSetError, match=r"expected the files of the published archive in .*checksums"):
        open_images("cifar10", tmp_path, "train")


@unpacks
def test_cifar10_can_be_downloaded(cifar10: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path / CIFAR10.base_folder, tmp_path / "cifar.tar.gz")
    publish(monkeypatch, "cifar10", archive, CIFAR10.base_folder)
    assert len(open_images("cifar10", tmp_path / "new", "all", download=True)) == len(cifar10)


@pytest.mark.parametrize("folder", ["cifar10", "cifar10-jpeg"])
def test_cifar10_is_read_from_class_folders(tmp_path: Path, save_image: Save, folder: str) -> None:
    for name in ("train/cat/0", "train/dog/0", "test/dog/0"):
        save_image(tmp_path / folder / f"{name}.jpg", 32, 32)
    assert open_images("cifar10", tmp_path, "train").class_names == ("cat", "dog")
    assert open_images("cifar10", tmp_path, "val").labels.tolist() == [1]


def test_digits_are_the_digits_to_eight_bits(tmp_path: Path) -> None:
    for part, split in zip(digits.load(), ("train", "val"), strict=True):
        images = open_images("digits", tmp_path, split)  # type: ignore[arg-type]
        assert images.labels.tolist() == part.labels.tolist()
        assert images.channels == 1
        for index in (0, 100, 449):
            difference = np.asarray(images.read(index)) / 255 - part.images[index, 0].numpy()
            assert np.abs(difference).max() <= 0.5 / 255 + 1e-6
    assert len(open_images("digits", tmp_path, "all")) == 1797


def test_a_folder_called_like_a_known_set_is_opened_by_its_path(
    tmp_path: Path, save_image: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_image(tmp_path / "digits" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert len(open_images("./digits", tmp_path, "train")) == 1
    assert len(open_images("digits", tmp_path, "train")) == 1347


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ImageSetError, match=r"imagenet-1k: expected a known set \(imagenette, .*digits\) or a folder"):
        open_images("imagenet-1k", tmp_path, "train")
    with pytest.raises(ImageSetError, match="expected the name of a set or a folder of images, got nothing"):
        open_images("", tmp_path, "train")
    with pytest.raises(ValueError, match="split must be 'train', 'val' or 'all', got 'test'"):
        open_images("digits", tmp_path, "test")  # type: ignore[arg-type]


def test_one_image_and_one_class_can_be_opened_and_are_refused_where_more_is_needed(
    tmp_path: Path, save_image: Save
) -> None:
    save_image(tmp_path / "only" / "dot.png", 1, 1)
    images: ImageSet = open_images(tmp_path, tmp_path, "train")
    assert images.read(0).size == (1, 1)
    with pytest.raises(ImageSetError, match=r"batch normalisation needs at least 2 images; .* has 1"):
        images.require("batch normalisation", images=2)
    with pytest.raises(ImageSetError, match="linear evaluation needs labels of at least 2 classes"):
        images.require("linear evaluation", classes=2)
    with pytest.raises(MissingSplitError):
        open_images(tmp_path, tmp_path, "val")
