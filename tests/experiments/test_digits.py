from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from experiments.images.digits import IMAGE_SIZE, DigitViews, LabelledImages, load

Split = tuple[LabelledImages, LabelledImages]


@pytest.fixture(scope="module")
def split() -> Split:
    return load()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_parts_are_the_whole_set_without_overlap(split: Split) -> None:
    train, test = split
    assert (len(train), len(test)) == (1347, 450)
    # The enlarged images are the originals' up to interpolation: the nearest original tells which.
    originals = load_digits()
    small = torch.cat([torch.nn.functional.avg_pool2d(part.images, 2).flatten(1) for part in split])
    labels = torch.cat([part.labels for part in split])
    large = torch.nn.functional.interpolate(
        torch.from_numpy(originals.images).float()[:, None] / 16, size=IMAGE_SIZE, mode="bilinear"
    )
    expected = torch.nn.functional.avg_pool2d(large, 2).flatten(1)
    distance = torch.cdist(small, expected, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distance.argmin(1)
    assert distance.min(1).values.max() < 1e-3
    assert nearest.unique().numel() == 1797
    assert torch.equal(torch.from_numpy(originals.target)[nearest], labels)


def test_every_class_is_held_out_in_equal_proportion(split: Split) -> None:
    train, test = split
    for digit in range(10):
        held_out = int((test.labels == digit).sum())
        total = held_out + int((train.labels == digit).sum())
        assert abs(held_out - 0.25 * total) <= 1


def test_the_split_is_always_the_same(split: Split) -> None:
    torch.manual_seed(99)
    for part, again in zip(split, load(), strict=True):
        assert torch.equal(part.images, again.images)
        assert torch.equal(part.labels, again.labels)


def test_images_are_16_by_16_with_values_from_0_to_1(split: Split) -> None:
    for part in split:
        assert part.images.shape == (len(part), 1, IMAGE_SIZE, IMAGE_SIZE)
        assert part.images.dtype == torch.float32
        assert part.images.min() == 0
        assert part.images.max() <= 1
    assert split[0].images.max() > 0.99


def test_views_keep_shape_and_range(split: Split) -> None:
    images = split[0].images[:200]
    view = DigitViews(generator())(images)
    assert view.shape == images.shape
    assert view.dtype == images.dtype
    assert view.min() >= 0
    assert view.max() <= 1
    assert torch.equal(images, split[0].images[:200]), "the images themselves must stay as they are"


def test_every_image_has_view_parameters_of_its_own(split: Split) -> None:
    # The same image many times: no two views alike.
    images = split[0].images[:1].expand(64, -1, -1, -1)
    views = DigitViews(generator(), defects=0.0)(images).flatten(1)
    distance = torch.cdist(views, views) + torch.eye(64)
    assert distance.min() > 0.05


def test_the_generator_determines_the_views(split: Split) -> None:
    images = split[0].images[:20]
    torch.manual_seed(1)
    first = DigitViews(generator(7))
    one, two = first(images), first(images)
    torch.manual_seed(2)
    assert torch.equal(DigitViews(generator(7))(images), one)
    assert not torch.equal(one, two)
    assert not torch.equal(DigitViews(generator(8))(images), one)


def test_without_defects_no_view_is_noisy_or_covered() -> None:
    # On a constant image, crops and slants reach beyond the border only; noise and covers would show in the middle.
    images = torch.full((200, 1, 16, 16), 0.5)
    middle = DigitViews(generator(), defects=0.0)(images)[..., 6:10, 6:10].flatten(1)
    assert (middle.amax(1) - middle.amin(1)).max() < 1e-5


@pytest.mark.parametrize("defects", [0.25, 1.0])
def test_defects_occur_as_often_as_asked(defects: float) -> None:
    images, count = torch.full((2000, 1, 16, 16), 0.5), 2000
    views = DigitViews(generator(), defects=defects, max_occlusion=0.0)(images)[..., 6:10, 6:10].flatten(1)
    noisy = int((views.amax(1) - views.amin(1) > 1e-4).sum())
    deviation = (count * defects * (1 - defects)) ** 0.5
    assert abs(noisy - defects * count) <= 4 * deviation + 5  # a few severities are too small to be seen


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DigitViews(generator(), defects=1.5), r"defects must be in \[0, 1\], got 1.5"),
        (lambda: DigitViews(generator(), defects=-0.1), r"defects must be in \[0, 1\], got -0.1"),
        (lambda: DigitViews(generator(), max_occlusion=2), r"max_occlusion must be in \[0, 1\], got 2"),
        (lambda: DigitViews(generator(), max_noise=-1), "max_noise must be finite and >= 0, got -1"),
        (lambda: DigitViews(generator(), max_noise=float("nan")), "max_noise must be finite and >= 0, got nan"),
    ],
)
def test_bad_arguments_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_images_of_another_shape_are_refused() -> None:
    flat: Tensor = torch.zeros(4, 64)
    with pytest.raises(ValueError, match=r"images must .* \(images, channels, height, width\), got .*\(4, 64\)"):
        DigitViews(generator())(flat)
