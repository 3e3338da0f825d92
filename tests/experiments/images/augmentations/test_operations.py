"""That each batched operation is torchvision's, image by image, on real photographs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from experiments.images.augmentations.colour import drop_colours, grey, jitter, mix, shift_hue
from experiments.images.augmentations.taps import (
    Taps,
    blur_taps,
    convolve,
    multiply_taps,
    multiply_taps_from_right,
    resample,
    resampling_taps,
    sum_taps,
)

functional: Any = v2.functional
TOLERANCE = 1e-5


@pytest.fixture
def photographs(make_canvas: Callable[..., Any]) -> Tensor:
    """Pieces of 48 × 48 pixels in [0, 1], with pure colours, greys, black and white among them."""
    canvas = make_canvas()
    pieces = [canvas.images[index, :, 5:53, 7:55] for index in (0, 1, 2, 7)]
    images: Tensor = torch.stack(pieces).float() / 255
    images[0, :, :8] = torch.tensor([1.0, 0, 0])[:, None, None]
    images[0, :, 8:12] = torch.tensor([0.3, 0.7, 0.7])[:, None, None]  # two channels tie
    images[1, :, :8] = torch.tensor([0.0, 1, 0])[:, None, None]
    images[1, :, 8:12] = 0.4
    images[2, :, :8], images[2, :, 8:16] = 0, 1
    return images


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("size", [1, 7, 32, 64, 224])
@pytest.mark.parametrize("flip", [False, True])
def test_crop_resize_and_flip_are_torchvisions_with_antialiasing(
    size: int, flip: bool, make_canvas: Callable[..., Any]
) -> None:
    canvas = make_canvas(padding=255)
    height, width = canvas.sizes.unbind(1)
    top, left = height // 5, width // 7
    box = torch.stack([top, left, (height - top) * 4 // 5 + (height < 5), (width - left).clamp_min(1)], dim=1)
    down = torch.arange(size)[None]
    across = down.flip(1) if flip else down
    taps = [
        resampling_taps(
            box[:, axis], box[:, 2 + axis], box[:, 2 + axis] / size, position, canvas.sizes[:, axis],
            canvas.images.size(2 + axis),
        )
        for axis, position in enumerate((down, across))
    ]  # fmt: skip
    views = resample(canvas.images, *taps)
    for index, view in enumerate(views):
        expected = functional.resized_crop(canvas.alone(index), *box[index].tolist(), [size, size], antialias=True)
        expected = functional.horizontal_flip(expected) if flip else expected
        torch.testing.assert_close(view, expected, atol=TOLERANCE, rtol=0)


def test_resampling_weights_are_positive_or_zero_and_add_to_one_within_the_interval() -> None:
    start, length = torch.tensor([0, 3, 10, 39]), torch.tensor([40, 1, 17, 1])
    taps = resampling_taps(start, length, length / 6, torch.arange(6)[None], torch.full((4,), 40), 40)
    assert (taps.weight >= 0).all()
    torch.testing.assert_close(taps.weight.sum(2), torch.ones(4, 6))
    inside = (taps.source >= start[:, None, None]) & (taps.source < (start + length)[:, None, None])
    assert (inside | (taps.weight == 0)).all()
    assert ((taps.source >= 0) & (taps.source < 40)).all()


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("kernel_size", [1, 3, 17, 95])
def test_blur_is_torchvisions_with_a_standard_deviation_for_each_image(kernel_size: int, photographs: Tensor) -> None:
    sigma, where = torch.tensor([0.1, 0.7, 2.0, 1.3]), torch.tensor([True, True, True, False])
    taps = blur_taps(sigma, where, kernel_size, photographs.size(2))
    blurred = torch.stack(tuple(convolve(photographs.unbind(1), taps)), dim=1)
    for index in range(3):
        expected = functional.gaussian_blur(photographs[index], [kernel_size] * 2, [sigma[index].item()] * 2)
        torch.testing.assert_close(blurred[index], expected, atol=TOLERANCE, rtol=0)
    assert torch.equal(blurred[3], photographs[3])


def test_sums_and_matrix_products_apply_the_same_taps() -> None:
    lines = torch.rand(3, 9, 4, 9, dtype=torch.float64)
    taps = Taps(torch.randint(0, 9, (3, 5, 6)), torch.rand(3, 5, 6, dtype=torch.float64))
    expected = torch.einsum("bokcd,bok->bocd", lines[torch.arange(3)[:, None, None], taps.source], taps.weight)
    torch.testing.assert_close(sum_taps(lines, taps), expected)
    torch.testing.assert_close(multiply_taps(lines, taps), expected)
    torch.testing.assert_close(multiply_taps_from_right(lines.transpose(1, 3), taps), expected.transpose(1, 3))


ORDERS = [pytest.param(order, id="".join(map(str, order))) for order in permutations(range(4))]
FACTORS = torch.tensor(
    [[0.6, 1.4, 0.7, 0.1], [1.4, 0.6, 1.4, -0.1], [1.3, 1.2, 0.0, 0.5], [2.5, 3.0, 2.0, -0.5]]
)  # the last saturates many pixels, so that it matters where the clamping is done


@pytest.mark.parametrize("order", ORDERS)
def test_jitter_is_torchvisions_in_every_order(order: tuple[int, ...], photographs: Tensor) -> None:
    orders = torch.tensor(order).expand(4, 4)
    changed = torch.stack(tuple(jitter(photographs.unbind(1), FACTORS, orders, torch.ones(4, dtype=torch.bool))), 1)
    for index, image in enumerate(photographs):
        expected = image
        for operation in order:
            adjust = getattr(functional, f"adjust_{('brightness', 'contrast', 'saturation', 'hue')[operation]}")
            expected = adjust(expected, FACTORS[index, operation].item())
        torch.testing.assert_close(changed[index], expected, atol=TOLERANCE, rtol=0)
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_jitter_takes_for_each_image_its_own_order(photographs: Tensor) -> None:
    orders = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]])
    everywhere = torch.ones(4, dtype=torch.bool)
    together = torch.stack(tuple(jitter(photographs.unbind(1), FACTORS, orders, everywhere)), 1)
    for index in range(4):
        one = slice(index, index + 1)
        alone = jitter(photographs[one].unbind(1), FACTORS[one], orders[one], everywhere[one])
        torch.testing.assert_close(together[one], torch.stack(tuple(alone), 1), atol=1e-6, rtol=0)


def test_jitter_leaves_alone_where_it_is_told_to(photographs: Tensor) -> None:
    orders = torch.tensor(list(permutations(range(4)))[5:9])
    same = torch.stack(tuple(jitter(photographs.unbind(1), FACTORS, orders, torch.zeros(4, dtype=torch.bool))), 1)
    torch.testing.assert_close(same, photographs, atol=1e-6, rtol=0)


def test_mixing_is_brightness_contrast_saturation_or_nothing(photographs: Tensor) -> None:
    factor, none = torch.tensor([0.3, 1.0, 1.4, 2.0]), torch.zeros(4)
    cases = {
        functional.adjust_brightness: (factor, none, none),
        functional.adjust_contrast: (factor, 1 - factor, none),
        functional.adjust_saturation: (factor, none, 1 - factor),
    }
    for adjust, coefficients in cases.items():
        mixed = torch.stack(tuple(mix(photographs.unbind(1), *coefficients)), 1)
        for index, image in enumerate(photographs):
            expected = adjust(image, factor[index].item())
            torch.testing.assert_close(mixed[index], expected, atol=TOLERANCE, rtol=0)
    unchanged = torch.stack(tuple(mix(photographs.unbind(1), torch.ones(4), none, none)), 1)
    assert torch.equal(unchanged, photographs)


@pytest.mark.parametrize("shift", [-0.5, -0.1, -1 / 6, 0.0, 0.04, 1 / 3, 0.5])
def test_a_shift_of_hue_is_torchvisions(shift: float, photographs: Tensor) -> None:
    shifted = torch.stack(tuple(shift_hue(photographs.unbind(1), torch.full((4,), shift))), 1)
    torch.testing.assert_close(shifted, functional.adjust_hue(photographs, shift), atol=TOLERANCE, rtol=0)


def test_hue_is_defined_on_every_corner_and_edge_of_the_colour_cube() -> None:
    levels = torch.tensor([0.0, torch.finfo(torch.float32).tiny / 8, 1e-30, 1e-3, 0.5, 1.0])
    colours = torch.cartesian_prod(levels, levels, levels).T[None, :, :, None]
    for shift in (-0.5, -0.25, 0.0, 0.1, 0.5):
        shifted = torch.stack(tuple(shift_hue(colours.unbind(1), torch.tensor([shift]))), 1)
        torch.testing.assert_close(shifted, functional.adjust_hue(colours, shift), atol=TOLERANCE, rtol=0)


def test_grey_is_torchvisions(photographs: Tensor) -> None:
    expected = functional.rgb_to_grayscale(photographs, 3)
    torch.testing.assert_close(grey(photographs.unbind(1)), expected[:, 0], atol=TOLERANCE, rtol=0)
    where = torch.tensor([True, False, True, False])
    dropped = torch.stack(tuple(drop_colours(photographs.unbind(1), where)), 1)
    torch.testing.assert_close(dropped[where], expected[where], atol=TOLERANCE, rtol=0)
    assert torch.equal(dropped[~where], photographs[~where])


def test_a_single_channel_has_neither_hue_nor_saturation(photographs: Tensor) -> None:
    channel = [photographs[:, 0]]
    assert torch.equal(shift_hue(channel, torch.full((4,), 0.3))[0], channel[0])
    assert torch.equal(drop_colours(channel, torch.ones(4, dtype=torch.bool))[0], channel[0])
    factor = torch.tensor([0.3, 0.8, 1.4, 2.0])
    saturated = mix(channel, factor, torch.zeros(4), 1 - factor)[0]
    torch.testing.assert_close(saturated, channel[0], atol=1e-6, rtol=0)
    contrasted = mix(channel, factor, 1 - factor, torch.zeros(4))[0]
    for index in range(4):
        expected = functional.adjust_contrast(photographs[index, :1], factor[index].item())
        torch.testing.assert_close(contrasted[index], expected[0], atol=TOLERANCE, rtol=0)
