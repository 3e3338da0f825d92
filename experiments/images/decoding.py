"""One image file becomes one upright RGB image, or one clear error.

Pillow alone decodes, so that streamed images, the check before a training and the set on a device see the same
pixels. Only the formats of `FORMATS` are tried, whatever a file is called: some of Pillow's others start programs. What
is not 8-bit RGB is converted:

- grey, 1-bit, palette, YCbCr and HSV images by Pillow's conversion;
- transparency (an alpha channel or a transparent palette entry) is laid over white, as a page would show it: the
  colours under it are arbitrary, so dropping the channel would show them;
- CMYK by Pillow's conversion without a colour profile;
- 16-bit grey by dividing by 257, so that 65,535 becomes 255 (Pillow's own conversion clips at 255);
- an orientation in the EXIF data is applied; EXIF data that cannot be read turn nothing;
- of an animation or a file of many pages, the first image is taken.

Refused are pixels whose range is not known: floating-point numbers, whole numbers below 0 or above 65,535, and files of
16 bits of which at most 12 are used, as microscopes and X-ray detectors write them (they would come out black). So are
images of more than `max_pixels` pixels, which are decompression bombs or need tiling first.
"""

from __future__ import annotations

import stat
import struct
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps

from experiments.images.errors import BrokenImageError, ImageSetError

MAX_PIXELS = 2**26
"""The largest image that is decoded by default, 67 million pixels; Pillow warns from 89 and refuses from 179."""

FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM")

_WIDE_GREY = {"I", "I;16", "I;16B", "I;16L", "I;16N"}
_TWELVE_BITS = 2**12


def read_image(file: str | Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a file to an upright RGB image.

    Args:
        file: The image file, in one of `FORMATS`.
        max_pixels: Height times width of the largest image that is decoded.

    Returns:
        An image of mode RGB, decoded, with no file left open.

    Raises:
        BrokenImageError: If the file is missing, unreadable, empty, truncated, no image, or too large.

    Example:
        >>> import sklearn.datasets
        >>> folder = Path(sklearn.datasets.__file__).parent / "images"
        >>> read_image(folder / "china.jpg").size
        (640, 427)
    """
    try:
        with Image.open(BytesIO(_contents(file)), formats=FORMATS) as image:
            return _upright_rgb(image, max_pixels)
    except Exception as error:  # Pillow's decoders raise most of Python's exceptions on broken files
        raise BrokenImageError(f"{file}: {_reason(error)}") from error


def refuse_lenient_decoding() -> None:
    """Raise if Pillow is set to fill up truncated images with grey: a check would then find none."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ImageSetError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES must be False, or truncated images cannot be recognised; "
            "got True, set by another package"
        )


def allow_pixels(max_pixels: int) -> None:
    """Raise Pillow's own limit, which is the process's, where images as large as this are asked for."""
    if max_pixels < 1:
        raise ValueError(f"max_pixels must be at least 1, got {max_pixels}")
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels


def _contents(file: str | Path) -> bytes:
    # A device such as /dev/zero never ends, and a pipe never begins.
    if not stat.S_ISREG(Path(file).stat().st_mode):
        raise ValueError("not a regular file")
    # Read at once: one system call instead of many seeks, which counts on network file systems.
    contents = Path(file).read_bytes()
    if not contents:
        raise ValueError("the file is empty (0 bytes)")
    return contents


def _upright_rgb(image: Image.Image, max_pixels: int) -> Image.Image:
    if image.width * image.height > max_pixels:
        raise ValueError(f"{image.width} × {image.height} pixels are more than the {max_pixels:,} that are decoded")
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known; expected 8 or 16 bits")
    # The decoder's name of the pixels, such as RGB;16B: Pillow keeps the upper 8 bits of colours of 16.
    tiles: list[Any] = getattr(image, "tile", [])
    coded = [tile.args if isinstance(tile.args, str) else str((*tile.args, "")[0]) for tile in tiles]
    wide_colours = any(name.startswith(f"{image.mode};16") for name in coded)
    image.load()
    with suppress(SyntaxError, struct.error):  # broken EXIF data, with which every viewer shows the image
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode in _WIDE_GREY:
        wide = np.asarray(image).astype(np.int64)
        lowest, highest = int(wide.min()), int(wide.max())
        if lowest < 0 or highest > 65535:
            raise ValueError(f"pixels from {lowest} to {highest}, whose range is not known; expected 0 to 65535")
        _check_bits(highest)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if wide_colours:
        with_alpha = image.getbands()[-1] == "A"  # which is no colour, and as a rule the largest value
        colours = np.asarray(image)[..., :-1] if with_alpha else np.asarray(image)
        _check_bits(int(colours.max()) * 256)
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
    return image.convert("RGB")


def _check_bits(highest: int) -> None:
    if 0 < highest < _TWELVE_BITS:
        raise ValueError(
            f"16-bit pixels of at most {highest}, which look like data of 12 bits or fewer and would come out black; "
            "scale them to the full range first"
        )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error)
    if text.startswith("cannot identify image file"):
        return f"not an image in one of the formats {', '.join(FORMATS)}"
    return text or type(error).__name__
