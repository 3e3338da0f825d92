"""The drawn parameters follow the distributions of torchvision's transforms: exactly known ones, and its own draws."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torchvision.transforms import ColorJitter, GaussianBlur, RandomResizedCrop

from experiments.images.augmentations.parameters import (
    ViewParameters,
    draw_parameters,
    parameters_from_draws,
)
from experiments.images.augmentations.recipe import ViewRecipe

RECIPE = ViewRecipe(size=32)
DRAWN = 20_000
LARGE = (5000, 5000)  # rounding to pixels is then small against the resolution of the tests
ALWAYS_FITS = ViewRecipe(size=32, crop_scale=(0.2, 0.7))
SIGNIFICANCE = 1e-3  # of a test that fails by chance; the seeds are fixed


def draw(
    size: tuple[int, int] = (400, 500), recipe: ViewRecipe = RECIPE, seed: int = 0, count: int = DRAWN
) -> ViewParameters:
    return draw_parameters(recipe, torch.tensor([size]).expand(count, 2), torch.Generator().manual_seed(seed))


def exact_law(size: tuple[int, int], recipe: ViewRecipe, grid: int = 1500) -> dict[tuple[int, int, int, int], float]:
    """Probability of each box, by quadrature over area and ratio, from the description of RandomResizedCrop alone."""
    height, width = size
    middle = (np.arange(grid) + 0.5) / grid
    area = height * width * (recipe.crop_scale[0] + (recipe.crop_scale[1] - recipe.crop_scale[0]) * middle)[:, None]
    low, high = recipe.crop_ratio
    ratio = low * (high / low) ** middle[None]
    w, h = np.rint(np.sqrt(area * ratio)).astype(int), np.rint(np.sqrt(area / ratio)).astype(int)
    fits = (w >= 1) & (w <= width) & (h >= 1) & (h <= height)
    fitting = fits.mean()
    law: dict[tuple[int, int, int, int], float] = {}
    for (box_height, box_width), number in Counter(zip(h[fits].tolist(), w[fits].tolist(), strict=True)).items():
        places = (height - box_height + 1) * (width - box_width + 1)
        # Given that one of the ten attempts fits, the first that does has the distribution of an attempt that fits.
        share = number / fits.sum() * (1 - (1 - fitting) ** 10) / places
        for top in range(height - box_height + 1):
            for left in range(width - box_width + 1):
                law[top, left, box_height, box_width] = share
    w_last, h_last = width, height
    if width / height < low:
        h_last = round(width / low)
    elif width / height > high:
        w_last = round(height * high)
    last = ((height - h_last) // 2, (width - w_last) // 2, h_last, w_last)
    law[last] = law.get(last, 0.0) + (1 - fitting) ** 10
    return law


def chi_square(counted: Counter[tuple[int, ...]], law: dict[tuple[int, int, int, int], float], number: int) -> float:
    """p-value, the rare boxes taken together."""
    assert set(counted) <= {box for box, probability in law.items() if probability > 0}
    common = [box for box, probability in law.items() if probability * number >= 8]
    expected = [law[box] * number for box in common]
    observed = [counted[box] for box in common]
    rest = number - sum(expected)
    if rest > 5:
        expected, observed = [*expected, rest], [*observed, number - sum(observed)]
    if len(expected) < 2:
        return 1.0
    scale = sum(observed) / sum(expected)
    assert scale == pytest.approx(1, abs=1e-3)
    return float(stats.chisquare(observed, np.array(expected) * scale).pvalue)


TINY = pytest.mark.parametrize(
    "size",
    [(1, 1), (1, 2), (3, 5), (6, 4), (2, 40), (40, 2), (12, 30), (7, 7)],
    ids=lambda size: f"{size[0]}x{size[1]}",
)


@TINY
def test_boxes_on_tiny_and_elongated_images_follow_the_exact_distribution(size: tuple[int, int]) -> None:
    counted = Counter(tuple(box) for box in draw(size).box.tolist())
    assert chi_square(counted, exact_law(size, RECIPE), DRAWN) > SIGNIFICANCE


@TINY
def test_torchvisions_own_boxes_follow_the_same_exact_distribution(size: tuple[int, int]) -> None:
    image, number = torch.empty(3, *size), 1500
    crop = RandomResizedCrop.get_params
    scale, ratio = list(RECIPE.crop_scale), list(RECIPE.crop_ratio)
    counted: Counter[tuple[int, ...]] = Counter(crop(image, scale, ratio) for _ in range(number))
    assert chi_square(counted, exact_law(size, RECIPE), number) > SIGNIFICANCE


def test_a_crop_that_always_fits_has_uniform_area_log_uniform_ratio_and_uniform_place() -> None:
    top, left, height, width = draw(LARGE, ALWAYS_FITS).box.double().unbind(1)
    cases = {
        "area": ((height * width / (LARGE[0] * LARGE[1])).numpy(), (0.2, 0.7)),
        "log ratio": ((width / height).log().numpy(), (math.log(3 / 4), math.log(4 / 3))),
        "top": (((top + 0.5) / (LARGE[0] - height + 1)).numpy(), (0, 1)),
        "left": (((left + 0.5) / (LARGE[1] - width + 1)).numpy(), (0, 1)),
    }
    for name, (values, (low, high)) in cases.items():
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > SIGNIFICANCE, name


@pytest.mark.parametrize("size", [(160, 213), (500, 100), (37, 41)], ids=str)
def test_boxes_have_the_distribution_of_torchvisions_own(size: tuple[int, int]) -> None:
    image = torch.empty(3, *size)
    get = RandomResizedCrop.get_params
    theirs = np.array([get(image, list(RECIPE.crop_scale), list(RECIPE.crop_ratio)) for _ in range(3000)])
    ours = draw(size, count=6000).box.numpy()
    functions: dict[str, Callable[[NDArray[np.int64]], NDArray[Any]]] = {
        "top": lambda box: box[:, 0],
        "left": lambda box: box[:, 1],
        "area": lambda box: box[:, 2] * box[:, 3],
        "ratio": lambda box: box[:, 3] / box[:, 2],
        "right": lambda box: box[:, 1] + box[:, 3],
    }
    for name, function in functions.items():
        assert stats.ks_2samp(function(ours), function(theirs)).pvalue > SIGNIFICANCE, name


def test_boxes_lie_within_their_images_whatever_the_sizes() -> None:
    sizes = torch.randint(1, 90, (DRAWN, 2))
    sizes[:2000, 0], sizes[2000:4000, 1] = 1, 1
    for ratio in ((3 / 4, 4 / 3), (0.05, 0.1), (8.0, 9.0)):
        recipe = ViewRecipe(size=32, crop_ratio=ratio)
        box = draw_parameters(recipe, sizes, torch.Generator().manual_seed(1)).box
        assert (box[:, :2] >= 0).all()
        assert (box[:, 2:] >= 1).all()
        assert (box[:, :2] + box[:, 2:] <= sizes).all()


def test_the_extreme_draws_give_boxes_within_the_image() -> None:
    sizes = torch.cat([torch.tensor([[65535, 65535], [7, 4000]]), torch.arange(1, 2000)[:, None].expand(-1, 2)])
    for value in (0.0, 1 - 2**-24):
        box = parameters_from_draws(RECIPE, sizes, torch.full((len(sizes), 35), value)).box
        assert (box[:, :2] >= 0).all()
        assert (box[:, :2] + box[:, 2:] <= sizes).all()


def test_factors_and_blur_are_uniform_on_their_ranges() -> None:
    drawn = draw()
    ranges = {"brightness": (0.6, 1.4), "contrast": (0.6, 1.4), "saturation": (0.6, 1.4), "hue": (-0.1, 0.1)}
    for column, (name, (low, high)) in enumerate(ranges.items()):
        values = drawn.factors[:, column].numpy()
        assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > SIGNIFICANCE, name
    assert stats.kstest(drawn.sigma.numpy(), stats.uniform(0.1, 1.9).cdf).pvalue > SIGNIFICANCE


def test_factors_and_blur_have_the_distribution_of_torchvisions_own() -> None:
    drawn = draw(count=6000)
    span = (0.6, 1.4)
    theirs = [ColorJitter.get_params(list(span), list(span), list(span), [-0.1, 0.1]) for _ in range(3000)]
    for column in range(4):
        sample = np.array([float(parameters[1 + column] or 0) for parameters in theirs])
        assert stats.ks_2samp(drawn.factors[:, column].numpy(), sample).pvalue > SIGNIFICANCE, column
    orders = [Counter(map(tuple, order)) for order in (drawn.order.tolist(), [t[0].tolist() for t in theirs])]
    table = [[counted[order] for order in permutations(range(4))] for counted in orders]
    assert stats.chi2_contingency(table).pvalue > SIGNIFICANCE
    sigmas = [GaussianBlur.get_params(0.1, 2.0) for _ in range(3000)]
    assert stats.ks_2samp(drawn.sigma.numpy(), sigmas).pvalue > SIGNIFICANCE


def test_a_strength_above_one_starts_at_factor_zero_as_in_torchvision() -> None:
    factors = draw(recipe=ViewRecipe(size=32, brightness=1.5, contrast=0.0)).factors
    low, high = ColorJitter(brightness=1.5).brightness
    assert stats.kstest(factors[:, 0].numpy(), stats.uniform(low, high - low).cdf).pvalue > SIGNIFICANCE
    assert (factors[:, 1] == 1).all()


def test_every_order_of_the_jitter_is_equally_likely() -> None:
    counted = Counter(map(tuple, draw().order.tolist()))
    assert set(counted) == set(permutations(range(4)))
    assert stats.chisquare(list(counted.values())).pvalue > SIGNIFICANCE


@pytest.mark.parametrize("name", ["jitter", "grey", "blur", "flip"])
def test_what_happens_by_chance_happens_as_often_as_the_recipe_says(name: str) -> None:
    probability = getattr(RECIPE, f"{name}_probability")
    happened = int(getattr(draw(), name).sum())
    assert stats.binomtest(happened, DRAWN, probability).pvalue > SIGNIFICANCE
    for certain in (0.0, 1.0):
        change: dict[str, Any] = {f"{name}_probability": certain}
        recipe = dataclasses.replace(RECIPE, **change)
        values = getattr(draw(recipe=recipe), name)
        assert (values == bool(certain)).all()


def test_the_parameters_of_a_view_and_of_neighbouring_images_are_uncorrelated() -> None:
    drawn = draw(LARGE, ALWAYS_FITS)
    top, left, height, width = drawn.box.double().unbind(1)
    columns = [height * width, (width / height).log(), top / (LARGE[0] - height + 1), left / (LARGE[1] - width + 1)]
    columns += [*drawn.factors.unbind(1), *drawn.order[:, :3].unbind(1)]
    columns += [drawn.sigma, drawn.jitter, drawn.grey, drawn.blur, drawn.flip]
    values = np.stack([column.double().numpy() for column in columns])
    correlation = np.corrcoef(np.concatenate([values[:, 1:], values[:, :-1]]))
    places = slice(8, 11)  # the places of one order exclude one another
    for shift in (0, len(values)):
        block = slice(places.start + shift, places.stop + shift)
        correlation[block, block] = 0
    np.fill_diagonal(correlation, 0)
    limit = stats.norm.isf(SIGNIFICANCE / correlation.size) / math.sqrt(DRAWN)
    assert np.abs(correlation).max() < limit


def test_the_same_generator_state_gives_the_same_parameters_and_another_gives_others() -> None:
    first, again, other = draw(count=50), draw(count=50), draw(count=50, seed=1)
    assert first.defects is again.defects is None
    assert all(torch.equal(a, b) for a, b in zip(first[:8], again[:8], strict=True))
    assert not torch.equal(first.factors, other.factors)


def test_drawing_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    draw(count=3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("sizes", [torch.ones(3), torch.ones(3, 2), torch.ones(3, 3, dtype=torch.int64)], ids=str)
def test_sizes_of_another_form_are_refused(sizes: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"sizes must be whole numbers of shape \(images, 2\)"):
        draw_parameters(RECIPE, sizes, torch.Generator())
