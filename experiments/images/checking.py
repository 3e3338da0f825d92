"""Every image is decoded once before a training, so that none stops it after hours."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from experiments.images.decoding import refuse_lenient_decoding
from experiments.images.errors import BrokenImageError, BrokenImagesError, ImageSetError
from experiments.images.image_sets import ArraySource, FileSource, ImageSet
from experiments.images.threads import in_threads
from inference.fitting.checkpointing import replace_text

_FORMAT = 2
_LISTED = 20


def check_images(
    images: ImageSet, *, skip_broken: bool = False, cache_folder: Path | None = None, threads: int | None = None
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
        The set with the hash of its content, without the images that were skipped.

    Raises:
        BrokenImagesError: If images cannot be read, and shall not be skipped.
        ImageSetError: If none can be read, or Pillow was told to accept truncated images.
    """
    source = images.source
    if isinstance(source, ArraySource):
        return replace(images, content=source.fingerprint())
    refuse_lenient_decoding()
    memory = None if cache_folder is None else cache_folder / f"checked-{source.fingerprint()[:24]}.json"
    known = None if memory is None else _recall(memory, images)
    if known is None or any(_examine(source, index)[0] is None for index in known["broken"]):
        found = list(
            in_threads(lambda i: _examine(source, i), len(images), f"{images.name}: checking", threads=threads)
        )
        content = hashlib.sha256(b"\0".join(digest for _, digest in found)).hexdigest()
        known = {"broken": [index for index, (text, _) in enumerate(found) if text is not None], "content": content}
        if memory is not None:
            _remember(memory, images, known)

    images = replace(images, content=known["content"])
    if not known["broken"]:
        return images
    broken = [str(_examine(source, index)[0]) for index in known["broken"][:_LISTED]]
    count = f"{images.name}: {len(known['broken']):,} of {len(images):,} images cannot be read"
    more = [f"… and {len(known['broken']) - _LISTED:,} more"] if len(known["broken"]) > _LISTED else []
    none_left = len(known["broken"]) == len(images)
    if none_left or not skip_broken:
        listed = "\n  ".join([f"{count}:", *broken, *more])
        if none_left:
            raise ImageSetError(listed)
        raise BrokenImagesError(f"{listed}\nRepair or remove them, or leave them out with --skip-broken.")
    _say("\n  ".join([f"{count} and are skipped:", *broken, *more]))
    kept = torch.ones(len(images), dtype=torch.bool)
    kept[known["broken"]] = False
    return images.select(kept.nonzero().flatten(), skipped=len(known["broken"]))


def _examine(source: FileSource, index: int) -> tuple[str | None, bytes]:
    """Why an image cannot be read, and the hash of its file."""
    try:
        source.read(index)
        return None, source.content(index)
    except BrokenImageError as error:
        return str(error), b""
    except OSError as error:  # gone since
        return f"{source.location(index)}: {error.strerror}", b""


def _recall(memory: Path, images: ImageSet) -> dict[str, Any] | None:
    """What was found before; None where the set was not checked, or the file is damaged."""
    if not memory.exists():
        return None
    try:
        known: dict[str, Any] = json.loads(memory.read_text())
        broken = [int(index) for index in known["broken"]]
        if known["format"] == _FORMAT and known["images"] == len(images) and isinstance(known["content"], str):
            return {**known, "broken": broken}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    _say(f"{images.name}: {memory} is damaged; the images are checked again")
    return None


def _remember(memory: Path, images: ImageSet, known: dict[str, Any]) -> None:
    text = json.dumps({"format": _FORMAT, "images": len(images), **known})
    try:
        replace_text(memory, text)
    except OSError as error:
        _say(f"{images.name}: cannot write {memory} ({error.strerror}); going on without")


def _say(message: str) -> None:
    print(message, file=sys.stderr)
