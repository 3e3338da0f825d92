"""Every image is decoded once before a training, so that none stops it after hours."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from experiments.images.decoding import refuse_lenient_decoding
from experiments.images.errors import BrokenImageError, BrokenImagesError, ImageSetError
from experiments.images.image_sets import ArraySource, ImageSet
from experiments.images.threads import in_threads

_FORMAT = 1
_LISTED = 20


def check_images(
    images: ImageSet, *, skip_broken: bool = False, cache_folder: Path | None = None, threads: int | None = None
) -> ImageSet:
    """Decode every image, and raise one error that lists those that cannot be read, or leave them out.

    Found are files that are missing, unreadable, empty, truncated or no images, and what makes Pillow's decoders fail.
    Bytes that changed within a JPEG may still decode, to a picture with stripes; no decoder can tell.

    Args:
        images: The set.
        skip_broken: Leave out what cannot be read, with a line on standard error that says how many.
        cache_folder: A folder to remember the result in, for as long as no path, size or time of a file changes; files
            that could not be read are tried again. By default nothing is remembered.
        threads: Number of threads.

    Returns:
        The set, without the images that were skipped.

    Raises:
        BrokenImagesError: If images cannot be read, and shall not be skipped.
        ImageSetError: If none can be read, or Pillow was told to accept truncated images.
    """
    if isinstance(images.source, ArraySource):
        return images
    refuse_lenient_decoding()

    def reason(index: int) -> str | None:
        try:
            images.read(index)
        except BrokenImageError as error:
            return str(error)
        return None

    memory = None if cache_folder is None else cache_folder / f"checked-{images.source.fingerprint()[:24]}.json"
    remembered = None if memory is None else _recall(memory, images)
    if remembered is None:
        found = in_threads(reason, len(images), f"{images.name}: checking", threads=threads)
    else:
        found = (reason(index) if index in remembered else None for index in range(len(images)))
    broken = {index: text for index, text in enumerate(found) if text is not None}
    if memory is not None and (remembered is None or remembered != broken.keys()):
        _remember(memory, images, sorted(broken))

    if not broken:
        return images
    if len(broken) == len(images) or not skip_broken:
        listed = list(broken.values())[:_LISTED]
        more = [f"… and {len(broken) - len(listed):,} more"] if len(broken) > len(listed) else []
        what = f"{images.name}: {len(broken):,} of {len(images):,} images cannot be read:"
        if len(broken) == len(images):
            raise ImageSetError("\n  ".join([what, *listed, *more]))
        remedy = "Repair or remove them, or leave them out with --skip-broken."
        raise BrokenImagesError("\n  ".join([what, *listed, *more]) + f"\n{remedy}")
    print(f"{images.name}: {len(broken):,} of {len(images):,} images cannot be read and are skipped", file=sys.stderr)
    kept = torch.ones(len(images), dtype=torch.bool)
    kept[list(broken)] = False
    return images.select(kept.nonzero().flatten(), skipped=len(broken))


def _recall(memory: Path, images: ImageSet) -> set[int] | None:
    """Numbers of the images that could not be read; None where the set was not checked, or the file is damaged."""
    if not memory.exists():
        return None
    try:
        content = json.loads(memory.read_text())
        if content["format"] != _FORMAT or content["images"] != len(images):
            return None
        return {int(index) for index in content["broken"]}
    except (OSError, ValueError, KeyError, TypeError):
        print(f"{images.name}: {memory} is damaged; the images are checked again", file=sys.stderr)
        return None


def _remember(memory: Path, images: ImageSet, broken: list[int]) -> None:
    unfinished = memory.with_name(f"{memory.name}.{os.getpid()}.unfinished")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps({"format": _FORMAT, "images": len(images), "broken": broken}))
        unfinished.replace(memory)
    except OSError as error:
        print(f"{images.name}: cannot write {memory} ({error.strerror}); going on without", file=sys.stderr)
