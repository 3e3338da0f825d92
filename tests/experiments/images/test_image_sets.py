from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.images.checking import check_images
from experiments.images.errors import ImageSetError
from experiments.images.image_sets import ArraySource, FileSource, ImageSet

Make = Callable[..., ImageSet]


def grey(labels: list[int], names: tuple[str, ...] = ("a", "b")) -> ImageSet:
    return ImageSet("grey", ArraySource(np.zeros((len(labels), 4, 3, 1), dtype=np.uint8)), torch.tensor(labels), names)


def test_a_selection_keeps_images_with_their_labels(make_set: Make) -> None:
    images = make_set({"cat": 3, "dog": 2}, sizes=((8, 6), (5, 4), (3, 2)))
    chosen = check_images(images).select(torch.tensor([4, 1]))
    assert chosen.sizes is not None and chosen.sizes.tolist() == [[5, 4], [5, 4]]  # noqa: PT018
    assert [chosen.location(index) for index in range(2)] == [images.location(4), images.location(1)]
    assert chosen.labels.tolist() == [1, 0]
    assert [np.asarray(chosen.read(index)).tolist() for index in range(2)] == [
        np.asarray(images.read(index)).tolist() for index in (4, 1)
    ]


def test_arrays_are_read_back_exactly() -> None:
    for channels in (1, 3):
        pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 4, channels), dtype=np.uint8)
        source = ArraySource(pixels)
        assert source.pixels.shape[1:3] == (5, 4)
        image = source.select(np.array([2])).read(0)
        assert np.array_equal(np.asarray(image).reshape(5, 4, channels), pixels[2])


@pytest.mark.parametrize("change", ["size", "time", "name", "gone"])
def test_the_fingerprint_changes_with_the_files(make_set: Make, change: str) -> None:
    images = make_set({"cat": 2})
    source = images.source
    assert isinstance(source, FileSource)
    before, file = source.fingerprint(), source.path(1)
    assert source.fingerprint() == before
    status = file.stat()
    if change == "size":
        file.write_bytes(file.read_bytes() + b"\0")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    elif change == "name":
        source = FileSource(source.folder, [source.paths[0], "cat/other.png"])
    else:
        file.unlink()
    assert source.fingerprint() != before


def test_the_fingerprint_of_arrays_is_that_of_their_pixels() -> None:
    pixels = np.zeros((2, 4, 3, 1), dtype=np.uint8)
    before = ArraySource(pixels).fingerprint()
    assert ArraySource(pixels.reshape(2, 3, 4, 1)).fingerprint() != before
    pixels[1, 2, 1, 0] = 1
    assert ArraySource(pixels).fingerprint() != before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grey([0]).require("batch normalisation", images=2), "needs at least 2 images; grey has 1"),
        (
            lambda: grey([0, 0]).require("kNN", classes=2),
            "kNN needs labels of at least 2 classes, .* grey has 1, and 0",
        ),
        (lambda: grey([0, 1, -1]).require("kNN", classes=2), "grey has 2, and 1 of its 3 images have no label"),
        (lambda: grey([-1, -1]).require("kNN", classes=1), "grey has 0, and 2 of its 2 images have no label"),
        (lambda: grey([0, 2]), r"labels must lie in \[-1, 2\), got 0 … 2"),
        (lambda: grey([0, -2]), r"labels must lie in \[-1, 2\), got -2 … 0"),
        (
            lambda: ImageSet("x", ArraySource(np.zeros((2, 4, 3, 1), np.uint8)), torch.zeros(3).long(), ("a",)),
            r"labels must be int64 of shape \(2,\), got torch.int64 of torch.Size\(\[3\]\)",
        ),
        (lambda: ArraySource(np.zeros((2, 4, 3, 2), np.uint8)), r"pixels must be uint8 .* got uint8 of shape \(2, 4"),
    ],
)
def test_what_does_not_suffice_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_what_suffices_is_not_refused(tmp_path: Path) -> None:
    grey([0, 1]).require("kNN", images=2, classes=2)
    grey([-1, -1]).require("training", images=2)
    with pytest.raises(ImageSetError):
        ImageSet("none", FileSource(tmp_path, []), torch.zeros(0, dtype=torch.int64), ()).require("training")
