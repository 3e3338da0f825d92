from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageFile

from experiments.images.decoding import MAX_PIXELS, allow_pixels, read_image, refuse_lenient_decoding
from experiments.images.errors import BrokenImageError, ImageSetError

Save = Callable[..., Path]


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "RGB", "CMYK", "YCbCr", "LAB", "I;16", "I"])
def test_every_common_mode_becomes_rgb_of_the_same_size(tmp_path: Path, mode: str) -> None:
    file = tmp_path / f"image.{'png' if mode in {'1', 'L', 'P', 'LA', 'RGBA', 'RGB', 'I;16'} else 'tif'}"
    if mode in {"I;16", "I"}:
        saved = Image.fromarray(np.full((5, 7), 100 * 257, dtype=np.uint16 if mode == "I;16" else np.int32))
    elif mode == "LAB":
        saved = Image.merge("LAB", [Image.new("L", (7, 5), value) for value in (108, 128, 128)])
    else:
        saved = Image.new("RGB", (7, 5), (100, 100, 100)).convert(mode)
    saved.save(file)
    with Image.open(file) as stored:
        assert stored.mode == mode
    image = read_image(file)
    assert (image.mode, image.size) == ("RGB", (7, 5))
    if mode != "1":
        assert np.abs(pixels(image) - 100).max() <= 2


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257, 128 * 257, 65535 - 257, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert pixels(read_image(tmp_path / "deep.png"))[0, :, 0].tolist() == [0, 1, 128, 254, 255]


@pytest.mark.parametrize(("suffix", "mode"), [("png", "RGBA"), ("png", "LA"), ("webp", "RGBA")])
def test_transparent_pixels_show_white_whatever_colour_lies_under_them(tmp_path: Path, suffix: str, mode: str) -> None:
    layers = np.zeros((2, 2, 4), dtype=np.uint8)
    layers[0, :, 3] = 255  # the upper row is black, the lower one transparent black
    Image.fromarray(layers).convert(mode).save(tmp_path / f"alpha.{suffix}", lossless=True)
    assert pixels(read_image(tmp_path / f"alpha.{suffix}"))[:, :, 1].tolist() == [[0, 0], [255, 255]]


def test_a_transparent_palette_entry_shows_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "palette.gif", transparency=1)
    assert pixels(read_image(tmp_path / "palette.gif")).tolist() == [[[10, 20, 30], [255, 255, 255]]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied_to_pixels_and_size(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10)
    # What a camera stores so that a viewer that applies the tag shows the upright image.
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(pixels(read_image(tmp_path / "turned.png"))[:, :, 0], pixels(upright))


@pytest.mark.parametrize("exif", [b"garbage of a broken program", b"II*", b"II*\0\1", b"\0" * 40])
def test_an_image_with_unreadable_exif_data_is_read_as_it_is(tmp_path: Path, exif: bytes) -> None:
    Image.new("RGB", (6, 4), "red").save(tmp_path / "a.jpg", exif=b"Exif\0\0" + exif, dpi=(72, 72))
    Image.new("RGB", (6, 4), "red").save(tmp_path / "a.png", exif=exif)
    assert [read_image(tmp_path / name).size for name in ("a.jpg", "a.png")] == [(6, 4), (6, 4)]


def test_of_an_animation_the_first_image_is_taken(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (3, 2), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "moving.gif", save_all=True, append_images=[second])
    assert pixels(read_image(tmp_path / "moving.gif"))[0, 0].tolist() == [255, 0, 0]


def test_an_image_of_one_pixel_is_read(save_image: Save, tmp_path: Path) -> None:
    assert read_image(save_image(tmp_path / "dot.png", 1, 1)).size == (1, 1)


def test_a_photograph_is_decoded_as_pillow_decodes_it(photograph: Path) -> None:
    with Image.open(photograph) as image:
        assert np.array_equal(pixels(read_image(photograph)), pixels(image))


def truncated(file: Path, target: Path, fraction: float) -> Path:
    contents = file.read_bytes()
    target.write_bytes(contents[: int(len(contents) * fraction)])
    return target


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_jpegs_are_found(photograph: Path, tmp_path: Path, fraction: float, progressive: bool) -> None:
    with Image.open(photograph) as image:
        image.save(tmp_path / "whole.jpg", progressive=progressive)
    read_image(tmp_path / "whole.jpg")
    with pytest.raises(BrokenImageError, match=r"cut\.jpg: "):
        read_image(truncated(tmp_path / "whole.jpg", tmp_path / "cut.jpg", fraction))


@pytest.mark.parametrize("suffix", ["png", "gif", "webp", "tif", "bmp", "ppm"])
@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.9])
def test_truncated_files_of_other_formats_are_found(
    photograph: Path, tmp_path: Path, suffix: str, fraction: float
) -> None:
    with Image.open(photograph) as image:
        image.resize((60, 40)).save(tmp_path / f"whole.{suffix}")
    read_image(tmp_path / f"whole.{suffix}")
    with pytest.raises(BrokenImageError, match=rf"cut\.{suffix}: "):
        read_image(truncated(tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}", fraction))


def png(width: int, height: int, bits: int = 8, lines: bytes = b"", kind: int = 2) -> bytes:
    """A PNG file of a kind (2: colours, 6: with alpha) that claims a size and holds these lines."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"", r"the file is empty \(0 bytes\)"),
        (b"a page of text", "not an image in one of the formats"),
        (b"\xff\xd8\xff\xe0", "not an image in one of the formats|truncated"),
        (png(8200, 8200), f"8200 × 8200 pixels are more than the {MAX_PIXELS:,}"),
        (png(20000, 20000), "400000000 pixels.*decompression bomb"),
        (png(9800, 9800), "pixels"),
        (png(4, 4), "truncated"),
    ],
    ids=["empty", "text", "stub", "large", "bomb", "between Pillow's limits", "no pixels"],
)
def test_what_is_no_image_is_named_with_the_reason(tmp_path: Path, contents: bytes, reason: str) -> None:
    file = tmp_path / "broken.jpg"
    file.write_bytes(contents)
    with pytest.raises(BrokenImageError, match=rf"broken\.jpg: .*({reason})"):
        read_image(file)


def test_a_missing_file_and_a_link_to_nothing_are_named(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "nothing.png")
    for name in ("missing.png", "link.png"):
        with pytest.raises(BrokenImageError, match=rf"{name}: No such file or directory"):
            read_image(tmp_path / name)


def test_a_file_without_permission_is_named(save_image: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save_image(tmp_path / "locked.png")

    def refuse(path: Path) -> bytes:  # a mode of 0 would not stop a test that root runs
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(BrokenImageError, match=r"locked\.png: Permission denied"):
        read_image(file)


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2), dtype=np.float32)).save(tmp_path / "depth.tif")
    with pytest.raises(BrokenImageError, match=r"depth\.tif: floating-point pixels.*expected 8 or 16 bits"):
        read_image(tmp_path / "depth.tif")


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([0, 4095], np.uint16, "16-bit pixels of at most 4095, which look like data of 12 bits"),
        ([-5, 3000], np.int32, "pixels from -5 to 3000, whose range is not known"),
        ([0, 70000], np.int32, "pixels from 0 to 70000, whose range is not known"),
    ],
    ids=["12 bits", "signed", "32 bits"],
)
def test_whole_numbers_of_an_unknown_range_are_refused(
    tmp_path: Path, values: list[int], dtype: type, message: str
) -> None:
    Image.fromarray(np.array([values], dtype=dtype)).save(tmp_path / "deep.tif")
    with pytest.raises(BrokenImageError, match=rf"deep\.tif: {message}"):
        read_image(tmp_path / "deep.tif")


def test_colours_of_sixteen_bits_of_which_twelve_are_used_are_refused(tmp_path: Path) -> None:
    for name, highest in (("dark.png", 4095), ("whole.png", 65535), ("black.png", 0)):
        lines = b"".join(b"\0" + struct.pack(">6H", *[highest] * 6) for _ in range(2))
        (tmp_path / name).write_bytes(png(2, 2, 16, lines))
    with pytest.raises(
        BrokenImageError, match=r"dark\.png: 16-bit pixels of at most 3840, which look like data of 12 bits"
    ):
        read_image(tmp_path / "dark.png")
    colours = np.full((2, 2, 4), 4095, dtype=np.uint16)
    colours[..., -1] = 65535  # opaque
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    (tmp_path / "opaque.png").write_bytes(png(2, 2, 16, lines, kind=6))
    with pytest.raises(BrokenImageError, match=r"opaque\.png: 16-bit pixels of at most 3840"):
        read_image(tmp_path / "opaque.png")
    assert pixels(read_image(tmp_path / "whole.png")).min() == 255
    assert pixels(read_image(tmp_path / "black.png")).max() == 0


def test_other_formats_are_refused_whatever_the_file_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")

    def start(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", start)
    with pytest.raises(BrokenImageError, match=r"page\.png: not an image in one of the formats JPEG, "):
        read_image(tmp_path / "page.png")


def test_a_link_to_a_device_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    with pytest.raises(BrokenImageError, match=r"endless\.png: not a regular file"):
        read_image(tmp_path / "endless.png")


def test_the_largest_number_of_pixels_can_be_set(
    tmp_path: Path, save_image: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save_image(tmp_path / "a.png", 20, 30)
    assert read_image(file, 600).size == (30, 20)
    with pytest.raises(BrokenImageError, match=r"a\.png: 30 × 20 pixels are more than the 599 that are decoded"):
        read_image(file, 599)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BrokenImageError, match="decompression bomb"):
        read_image(file, 600)
    allow_pixels(600)
    assert read_image(file, 600).size == (30, 20)


def test_lenient_decoding_set_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_lenient_decoding()
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ImageSetError, match="LOAD_TRUNCATED_IMAGES must be False"):
        refuse_lenient_decoding()
