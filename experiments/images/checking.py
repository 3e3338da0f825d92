"""Decode every image once before a training, so that a broken one cannot stop it after hours."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from experiments.images.cache import Cache
from experiments.images.decoding import refuse_lenient_decoding
from experiments.images.errors import BrokenImageError, ImageSetError
from experiments.images.image_sets import ArraySource, FileSource, ImageSet
from experiments.images.threads import in_threads

_LISTED = 20


def check_images(
    images: ImageSet, *, skip_broken: bool = False, cache_folder: str | Path | None = None, threads: int | None = None
) -> ImageSet:
    """Decode every image, and raise one error that lists those that cannot be read, or leave them out.

    Found are files that are missing, unreadable, empty, truncated or no images, and what makes Pillow's decoders fail.
    Bytes that changed within a JPEG may still decode, to a picture with stripes; no decoder can tell.

    Args:
        images: The set.
        skip_broken: Leave out what cannot be read, and list it on standard error.
        cache_folder: A folder to remember the result in, for as long as no path, size or time of a file changes; files
            that could not be read are tried again. By default nothing is remembered.
        threads: Number of threads.

    Returns:
        The set with the hash of its content and the sizes of its images, without the images that were skipped.

    Raises:
        ImageSetError: If images cannot be read and are not to be skipped, or none can, or Pillow is set to accept
            truncated images.
    """
    source = images.source
    if isinstance(source, ArraySource):
        size = torch.tensor(source.pixels.shape[1:3])
        return replace(images, content=source.fingerprint(), sizes=size.expand(len(images), 2))
    refuse_lenient_decoding()
    cache = Cache(images.name, cache_folder, "checked", source.fingerprint(), source.max_pixels)
    known = cache.read(0)
    if known is None or any(_examine(source, index)[0] is None for index in known["broken"]):
        found = list(
            in_threads(partial(_examine, source), range(len(images)), f"{images.name}: checking", threads=threads)
        )
        known = {
            "broken": [index for index, (reason, *_) in enumerate(found) if reason is not None],
            "sizes": torch.tensor([size for _, size, _ in found]).view(-1, 2),
            "content": hashlib.sha256(b"\0".join(digest for *_, digest in found)).hexdigest(),
        }
        cache.write(0, known)

    images, broken = replace(images, content=known["content"], sizes=known["sizes"]), known["broken"]
    if not broken:
        return images
    count = f"{images.name}: {len(broken):,} of {len(images):,} images cannot be read"
    lines = [str(_examine(source, index)[0]) for index in broken[:_LISTED]]
    if len(broken) > _LISTED:
        lines.append(f"… and {len(broken) - _LISTED:,} more")
    listed = "\n  ".join(["", *lines])
    if len(broken) == len(images):
        raise ImageSetError(f"{count}:{listed}")
    if not skip_broken:
        raise ImageSetError(f"{count}:{listed}\nRepair or remove them, or leave them out with --skip-broken.")
    print(f"{count} and are skipped:{listed}", file=sys.stderr)
    kept = torch.ones(len(images), dtype=torch.bool)
    kept[broken] = False
    return images.select(kept.nonzero().flatten(), skipped=len(broken))


def _examine(source: FileSource, index: int) -> tuple[str | None, tuple[int, int], bytes]:
    """Why an image cannot be read, its height and width, and the hash of its file."""
    try:
        image = source.read(index)
        return None, (image.height, image.width), source.content(index)
    except BrokenImageError as error:
        return str(error), (0, 0), b""
    except OSError as error:  # gone since
        return f"{source.location(index)}: {error.strerror}", (0, 0), b""
