"""One image file becomes one upright RGB image, or one clear error.

Pillow alone decodes, so that the loader's workers, the check before a training and the set on a device see the same
pixels. What is not 8-bit RGB is converted:

- grey, 1-bit, palette, YCbCr and HSV images by Pillow's conversion;
- transparency (an alpha channel or a transparent palette entry) is laid over white, as a page would show it: the
  colours under it are arbitrary, so dropping the channel would show them;
- CMYK by Pillow's conversion without a colour profile;
- 16-bit grey by dividing by 257, so that 65,535 becomes 255 (Pillow's own conversion clips at 255);
- an orientation in the EXIF data is applied;
- of an animation or a file of many pages, the first image is taken.

Floating-point images are refused, as no range of their values is known, and so are images of more than
`MAX_PIXELS` pixels, which are decompression bombs or need tiling first.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps

from experiments.images.errors import BrokenImageError, ImageSetError

MAX_PIXELS = 2**26
"""The largest image that is decoded, 67 million pixels; Pillow warns from 89 million and refuses 179 million."""

_ORIENTATION = 0x0112  # the EXIF tag; its values from 5 to 8 swap height and width
_WIDE_GREY = {"I", "I;16", "I;16B", "I;16L", "I;16N"}


def read_image(file: str | Path) -> Image.Image:
    """Decode a file to an upright RGB image.

    Args:
        file: The image file, in any format Pillow reads.

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
        with Image.open(BytesIO(_contents(file))) as image:
            _check_pixels(image.size)
            return _upright_rgb(image)
    except ImageSetError:
        raise
    except Exception as error:  # Pillow's decoders raise most of Python's exceptions on broken files
        raise BrokenImageError(f"{file}: {_reason(error)}") from error


def read_size(file: str | Path) -> tuple[int, int]:
    """Height and width of the upright image, from the file's header alone.

    Raises:
        BrokenImageError: If the file is missing, unreadable, empty, no image, or too large. A truncated file passes.

    Example:
        >>> import sklearn.datasets
        >>> read_size(Path(sklearn.datasets.__file__).parent / "images" / "china.jpg")
        (427, 640)
    """
    try:
        with Image.open(file) as image:
            _check_pixels(image.size)
            width, height = image.size
            swapped = image.getexif().get(_ORIENTATION, 1) in {5, 6, 7, 8}
            return (width, height) if swapped else (height, width)
    except ImageSetError:
        raise
    except Exception as error:
        raise BrokenImageError(f"{file}: {_reason(error)}") from error


def refuse_lenient_decoding() -> None:
    """Raise if Pillow was told to fill up truncated images with grey: a check would then find none."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ImageSetError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES must be False, or truncated images cannot be told from whole ones; "
            "got True, set by another package"
        )


def _contents(file: str | Path) -> bytes:
    # Read at once: one system call instead of many seeks, which counts on network file systems.
    contents = Path(file).read_bytes()
    if not contents:
        raise BrokenImageError(f"{file}: the file is empty (0 bytes)")
    return contents


def _check_pixels(size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} × {height} pixels are more than the {MAX_PIXELS:,} that are decoded")


def _upright_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known; expected 8 or 16 bits")
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in _WIDE_GREY:
        wide = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error)
    if text.startswith("cannot identify image file"):
        return "not an image that Pillow can read"
    return text or type(error).__name__
