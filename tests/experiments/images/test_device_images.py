from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.images import cache as caching
from experiments.images import device_images
from experiments.images.checking import check_images
from experiments.images.device_images import DeviceImages, stored_size
from experiments.images.errors import BrokenImageError, ImageSetError
from experiments.images.image_sets import ArraySource, FileSource, ImageSet
from experiments.images.layouts import find_images
from inference.fitting.checkpointing import load_checkpoint

Make = Callable[..., ImageSet]
SIZES = ((8, 6), (5, 9), (1, 1), (7, 7))


@pytest.fixture
def images(make_set: Make) -> ImageSet:
    return make_set({"cat": 40, "dog": 30}, sizes=SIZES)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the set take several chunks: 70 images of 3 × 8 × 9 bytes, 16 in a chunk."""
    monkeypatch.setattr(device_images, "_CHUNK_BYTES", 16 * 3 * 8 * 9)


def same(first: DeviceImages, second: DeviceImages) -> bool:
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in ("canvas", "sizes", "labels")) and (
        first.class_names == second.class_names
    )


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("small_chunks")
def test_every_image_stands_in_its_corner_pixel_for_pixel(images: ImageSet, threads: int) -> None:
    resident = DeviceImages.load(images, threads=threads)
    assert resident.canvas.shape == (70, 3, 8, 9)
    assert resident.canvas.dtype == torch.uint8
    assert len(resident) == 70
    assert torch.equal(resident.labels, images.labels)
    assert resident.class_names == ("cat", "dog")
    for index in range(70):
        pixels = torch.from_numpy(np.array(images.read(index))).permute(2, 0, 1)
        height, width = resident.sizes[index].tolist()
        assert (3, height, width) == pixels.shape
        assert torch.equal(resident.canvas[index, :, :height, :width], pixels)
        assert int(resident.canvas[index].sum()) == int(pixels.sum()), "beside the image all is zero"


def test_grey_images_keep_one_channel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 1), dtype=np.uint8)
    resident = DeviceImages.load(ImageSet("grey", ArraySource(pixels), torch.zeros(5).long(), ("a",)))
    assert torch.equal(resident.canvas, torch.from_numpy(pixels).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("size", "storage_size", "expected"),
    [
        ((8, 6), None, (8, 6)),
        ((8, 6), 6, (8, 6)),
        ((8, 6), 100, (8, 6)),
        ((500, 375), 160, (213, 160)),
        ((375, 500), 160, (160, 213)),
        ((200, 100), 50, (100, 50)),
        ((1000, 10), 100, (200, 2)),
        ((3000, 1), 100, (200, 1)),
        ((1, 1), 1, (1, 1)),
    ],
)
def test_the_shorter_side_is_bounded_and_the_longer_by_twice_that(
    size: tuple[int, int], storage_size: int | None, expected: tuple[int, int]
) -> None:
    assert stored_size(size, storage_size) == expected


def test_reduction_is_antialiased(tmp_path: Path) -> None:
    # A pattern of single black and white columns is grey from far away; picking pixels would leave black or white.
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[:, ::2] = 255
    for number in range(2):
        Image.fromarray(stripes).save(tmp_path / f"{number}.png")
    resident = DeviceImages.load(find_images(tmp_path, "train"), storage_size=16)
    assert resident.canvas.shape == (2, 3, 16, 16)
    inner = resident.canvas[:, :, 2:-2, 2:-2].float()
    assert (inner - 127.5).abs().max() <= 4


def test_a_photograph_is_reduced_as_pillow_does(photograph: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to(photograph)
    resident = DeviceImages.load(find_images(tmp_path, "train"), storage_size=64)
    with Image.open(photograph) as image:
        expected = np.asarray(image.resize((96, 64), Image.Resampling.LANCZOS))
    assert np.array_equal(resident.canvas[0].permute(1, 2, 0).numpy(), expected)


@pytest.mark.usefixtures("small_chunks")
def test_a_second_start_decodes_nothing_and_gives_the_same(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = check_images(images)
    plain = DeviceImages.load(images)
    first = DeviceImages.load(images, cache_folder=tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    assert len(list(folder.iterdir())) == 5
    monkeypatch.setattr(FileSource, "read", None)
    second = DeviceImages.load(images, cache_folder=tmp_path / "cache")
    assert same(plain, first)
    assert same(plain, second)


def test_another_storage_size_or_a_changed_file_has_a_cache_of_its_own(images: ImageSet, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    large = DeviceImages.load(images, cache_folder=cache)
    small = DeviceImages.load(images, storage_size=4, cache_folder=cache)
    assert large.canvas.shape != small.canvas.shape
    assert isinstance(images.source, FileSource)
    Image.new("RGB", (6, 8), "white").save(images.source.path(0))
    changed = DeviceImages.load(images, cache_folder=cache)
    assert int(changed.canvas[0, :, :8, :6].min()) == 255
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped bit", "text"])
@pytest.mark.usefixtures("small_chunks")
def test_of_a_damaged_cache_the_damaged_part_is_made_anew_with_a_word(
    images: ImageSet, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, images = tmp_path / "cache", check_images(images)
    expected = DeviceImages.load(images, cache_folder=cache)
    (folder,) = cache.iterdir()
    files = sorted(folder.iterdir())
    whole = bytearray(files[2].read_bytes())
    pixels = load_checkpoint(files[2], caching.FORMAT)["pixels"].numpy().tobytes()
    place = whole.index(pixels) + 7
    contents: dict[str, bytes | bytearray] = {
        "cut": whole[:-100],
        "empty": b"",
        "flipped bit": whole[:place] + bytearray([whole[place] ^ 1]) + whole[place + 1 :],
        "text": b"not a cache",
    }
    files[2].write_bytes(contents[damage])
    read = FileSource.read
    numbers: list[int] = []

    def counted(source: FileSource, index: int) -> Image.Image:
        numbers.append(index)
        return read(source, index)

    monkeypatch.setattr(FileSource, "read", counted)
    assert same(DeviceImages.load(images, cache_folder=cache), expected)
    assert sorted(numbers) == list(range(32, 48))
    assert f"set: checkpoint {files[2]} is damaged" in capsys.readouterr().err
    assert files[2].read_bytes() == whole
    assert sorted(folder.iterdir()) == files


@pytest.mark.usefixtures("small_chunks")
def test_a_cache_that_cannot_be_written_is_no_obstacle(
    images: ImageSet, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = DeviceImages.load(images)
    (tmp_path / "file").touch()
    assert same(DeviceImages.load(images, cache_folder=tmp_path / "file" / "cache"), expected)
    assert "going on without" in capsys.readouterr().err

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    assert same(DeviceImages.load(images, cache_folder=tmp_path / "cache"), expected)
    assert capsys.readouterr().err.count("(No space left on device); going on without") == 1
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("small_chunks")
def test_an_interrupted_start_has_cached_what_it_decoded(images: ImageSet, tmp_path: Path) -> None:
    images = check_images(images)
    assert isinstance(images.source, FileSource)
    file = images.source.path(69)
    file.write_bytes(file.read_bytes()[:-30])  # the header is whole
    with pytest.raises(BrokenImageError, match=r"069\.png"):
        DeviceImages.load(images, cache_folder=tmp_path / "cache")
    assert {path.name for path in (tmp_path / "cache").rglob("*.ckpt*")} <= {f"{16 * n:08d}.ckpt" for n in range(4)}


def test_too_little_memory_is_refused_before_anything_is_decoded(
    images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_images, "_free_memory", lambda _: 10_000)
    images = check_images(images)
    monkeypatch.setattr(FileSource, "read", None)
    with pytest.raises(
        ImageSetError,
        match=r"set: 70 images of 3 × 8 × 9 bytes need 0\.00 GB on cpu, which has 0\.00 GB free.*storage_",
    ):
        DeviceImages.load(images)


def test_free_memory_is_what_the_system_says() -> None:
    free = device_images._free_memory(torch.device("cpu"))
    assert free is None or 2**20 < free < 2**50
    assert device_images._free_memory(torch.device("meta")) is None


def test_an_empty_set_and_a_storage_size_of_zero_are_refused(images: ImageSet) -> None:
    with pytest.raises(ImageSetError, match="a training needs at least 1 images; set has 0"):
        DeviceImages.load(images.select(torch.zeros(0, dtype=torch.int64)))
    with pytest.raises(ValueError, match="storage_size must be at least 1, got 0"):
        DeviceImages.load(images, storage_size=0)


def test_an_image_that_changes_after_the_check_is_named(images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    images = check_images(images)
    monkeypatch.setattr(FileSource, "read", lambda *_: Image.new("RGB", (3, 3)))
    with pytest.raises(BrokenImageError, match=r"000\.png: is 3 × 3, not as when it was checked"):
        DeviceImages.load(images)


@pytest.mark.gpu
def test_images_on_a_gpu_are_those_on_the_cpu(images: ImageSet, tmp_path: Path) -> None:
    on_cpu = DeviceImages.load(images)
    for _ in range(2):
        on_gpu = DeviceImages.load(images, "cuda", cache_folder=tmp_path / "cache")
        assert on_gpu.device.type == "cuda"
        assert torch.equal(on_gpu.canvas.cpu(), on_cpu.canvas)
        assert torch.equal(on_gpu.sizes.cpu(), on_cpu.sizes)
