"""That lost detail, noise and covers are what the recipe says, and nowhere else."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from experiments.images.augmentations.batched import BatchedViews
from experiments.images.augmentations.defects import Defects, lose_detail, noise_pattern
from experiments.images.augmentations.parameters import ViewParameters, draw_parameters
from experiments.images.augmentations.recipe import ViewRecipe
from experiments.images.degradations import downscale

PLAIN = ViewRecipe(size=32)
DEFECTIVE = ViewRecipe(size=32, noise_probability=0.25, occlusion_probability=0.4)
COARSE = dataclasses.replace(DEFECTIVE, downscale_probability=0.3)
BARE = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
DRAWN = 20_000
SIGNIFICANCE = 1e-3  # of a test that fails by chance; the seeds are fixed


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw_all(recipe: ViewRecipe, count: int = DRAWN) -> ViewParameters:
    return draw_parameters(recipe, torch.tensor([[40, 50]]).expand(count, 2), seeded())


def draw(recipe: ViewRecipe = DEFECTIVE, count: int = DRAWN) -> Defects:
    defects = draw_all(recipe, count).defects
    assert defects is not None
    return defects


def murmur_like(word: int) -> int:
    """The mixing of bits in Python's whole numbers, which have no end to overflow."""
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
        word = (word ^ (word >> shift)) * factor % 2**32
    return word ^ (word >> 15)


def test_the_pattern_is_the_normal_quantile_of_mixed_bits() -> None:
    size, keys = 7, [0, 1, 2**32 - 1, 0x9E3779B9]
    pattern = noise_pattern(torch.tensor(keys), 3, size)
    for key, one in zip(keys, pattern, strict=True):
        for pixel, value in enumerate(one.flatten().tolist()):
            bits = murmur_like(murmur_like(pixel) ^ murmur_like(key)) >> 8
            expected = stats.norm.ppf((bits + 0.5) / 2**24)
            assert value == pytest.approx(expected, rel=2e-5, abs=1e-6)


def test_the_pattern_is_finite_at_every_number_it_can_meet() -> None:
    ends = torch.tensor([1 - 2.0**24, -1.0, 1.0, 2.0**24 - 1]) * 2.0**-24
    values = torch.erfinv(ends) * math.sqrt(2)
    expected = [stats.norm.ppf(0.5 * (1 + end)) for end in ends.double().tolist()]
    assert values.tolist() == pytest.approx(expected, rel=1e-4)


def test_patterns_are_white_and_normal_within_a_view_and_across_keys() -> None:
    keys = torch.cat([torch.arange(200), torch.randint(2**32, (200,), generator=seeded())])
    pattern = noise_pattern(keys, 3, 32).double()
    values = pattern.flatten().numpy()
    assert stats.kstest(values, "norm").pvalue > SIGNIFICANCE
    assert stats.kstest(pattern.mean((1, 2, 3)).numpy() * math.sqrt(3 * 32**2), "norm").pvalue > SIGNIFICANCE
    assert stats.kstest(pattern[:, 0, 5, 9].numpy(), "norm").pvalue > SIGNIFICANCE
    pairs = {
        "row": (pattern[:, :, :-1], pattern[:, :, 1:]),
        "column": (pattern[..., :-1], pattern[..., 1:]),
        "channel": (pattern[:, :-1], pattern[:, 1:]),
        "key": (pattern[:-1], pattern[1:]),
        "half": (pattern[:, :, :16], pattern[:, :, 16:]),
    }
    for name, (first, second) in pairs.items():
        for power in (1, 2):  # numbers, and how far they are from 0
            one, two = first**power, second**power
            correlation = float(torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1])
            assert abs(correlation) < 4 / math.sqrt(first.numel()), (name, power)


def test_defects_happen_as_often_and_are_as_strong_as_the_recipe_says() -> None:
    drawn = draw()
    for happened, probability in ((drawn.noise, 0.25), (drawn.occlusion, 0.4)):
        assert stats.binomtest(int(happened.sum()), DRAWN, probability).pvalue > SIGNIFICANCE
    assert stats.kstest(drawn.noise_std.numpy(), stats.uniform(0.05, 0.25).cdf).pvalue > SIGNIFICANCE
    assert stats.kstest(drawn.noise_key.numpy(), stats.uniform(0, 2**32).cdf).pvalue > SIGNIFICANCE
    assert drawn.noise_key.unique().numel() > DRAWN - 5
    coarse = draw(dataclasses.replace(COARSE, size=10_000))  # rounding to pixels is then small
    assert stats.binomtest(int(coarse.downscale.sum()), DRAWN, 0.3).pvalue > SIGNIFICANCE
    assert stats.kstest(10_000 / coarse.pixels.double().numpy(), stats.uniform(1.5, 2.5).cdf).pvalue > SIGNIFICANCE
    always = dataclasses.replace(DEFECTIVE, noise_probability=1.0, occlusion_probability=0.0)
    assert draw(always).noise.all()
    assert not draw(always).occlusion.any()


@pytest.mark.parametrize("scale", [(0.1, 0.5), (0.2, 1.0), (0.0, 0.3)], ids=str)
def test_covers_have_a_uniform_area_a_shape_that_fits_and_any_place(scale: tuple[float, float]) -> None:
    size = 2000  # rounding to pixels is then small against the resolution of the tests
    recipe = ViewRecipe(size=size, occlusion_probability=1.0, occlusion_scale=scale)
    top, left, height, width = draw(recipe).cover.double().unbind(1)
    for start, length in ((top, height), (left, width)):
        assert (start >= 0).all()
        assert (start + length <= size).all()
    area = height * width / size**2
    assert stats.kstest(area.numpy(), stats.uniform(scale[0], scale[1] - scale[0]).cdf).pvalue > SIGNIFICANCE
    large = area > 1e-3  # so that the ratio of whole pixels is the ratio
    log_ratio, area = (width / height).log()[large], area[large]
    widest = (1 / area.clamp_min(0.5)).log()
    assert (log_ratio.abs() <= widest + 0.05).all()
    narrow = area < 0.95  # beyond, the range of ratios is of the order of a pixel
    assert stats.kstest((log_ratio / widest)[narrow].numpy(), stats.uniform(-1, 2).cdf).pvalue > SIGNIFICANCE
    for start, length in ((top, height), (left, width)):
        there = length < 0.9 * size
        place = (start + 0.5) / (size - length + 1)
        assert stats.kstest(place[there].numpy(), stats.uniform(0, 1).cdf).pvalue > SIGNIFICANCE


def test_defects_are_uncorrelated_with_each_other_and_with_the_rest() -> None:
    others = draw_all(dataclasses.replace(COARSE, size=1000))
    drawn = others.defects
    assert drawn is not None
    columns = [drawn.noise, drawn.noise_std, drawn.noise_key, drawn.occlusion, *drawn.cover[:, 2:].unbind(1)]
    columns += [drawn.downscale, drawn.pixels]
    rest = [others.jitter, others.grey, others.blur, others.sigma, others.flip, *others.factors.unbind(1)]
    values = np.stack([column.double().numpy() for column in [*columns, *rest]])
    correlation = np.corrcoef(values)
    correlation[4:6, 4:6] = 0  # a larger cover is larger both ways
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < stats.norm.isf(SIGNIFICANCE / correlation.size) / math.sqrt(DRAWN)


def test_with_probability_zero_no_number_is_drawn_and_no_bit_changes(make_canvas: Callable[..., Any]) -> None:
    canvas, state = make_canvas(), seeded()
    parameters = draw_parameters(PLAIN, canvas.sizes, state)
    alike = seeded()
    torch.rand(len(canvas.sizes), 35, generator=alike)
    assert torch.equal(state.get_state(), alike.get_state())
    assert parameters.defects is None
    off = dataclasses.replace(PLAIN, noise_std=(0.2, 0.9), occlusion_scale=(0.3, 0.8), downscale_factor=(2, 9))
    views = [BatchedViews(recipe)(canvas.images, canvas.sizes, parameters) for recipe in (PLAIN, off)]
    assert torch.equal(*views)
    state, alike = seeded(), seeded()
    draw_parameters(PLAIN, torch.tensor([[40, 50]]), state)
    torch.rand(1, 35, generator=alike)
    assert torch.equal(state.get_state(), alike.get_state())


def test_the_other_parameters_of_a_seed_are_the_same_with_and_without_defects() -> None:
    plain, defective, coarse = (draw_all(recipe, 300) for recipe in (PLAIN, DEFECTIVE, COARSE))
    assert defective.defects is not None and coarse.defects is not None  # noqa: PT018
    for one, two, three in zip(plain[:8], defective[:8], coarse[:8], strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)
    for one, two in zip(defective.defects[:5], coarse.defects[:5], strict=True):  # noise and cover
        assert torch.equal(one, two)


@pytest.mark.parametrize("size", [1, 7, 16, 32])
def test_lost_detail_is_what_pytorch_makes_of_a_smaller_view_enlarged_again(size: int) -> None:
    recipe = ViewRecipe(size=size, **BARE)  # type: ignore[arg-type]
    pixels = torch.arange(1, size + 1)
    views = torch.rand(size, 3, size, size, generator=seeded())
    parameters = draw(DEFECTIVE, size)._replace(downscale=torch.ones(size, dtype=torch.bool), pixels=pixels)
    coarse = torch.stack(list(lose_detail(views.unbind(1), parameters)), dim=1)
    expected = downscale(views, recipe.size / pixels)
    torch.testing.assert_close(coarse, expected, atol=1e-5, rtol=0)
    kept = parameters._replace(downscale=torch.zeros(size, dtype=torch.bool))
    assert torch.equal(torch.stack(list(lose_detail(views.unbind(1), kept)), dim=1), views)


def with_defects(clean: Tensor, parameters: Defects) -> Tensor:
    """By NumPy, of a view in [0, 1]; the pattern alone is ours."""
    if parameters.downscale:
        clean = downscale(clean[None], clean.size(-1) / parameters.pixels.item())[0]
    view = clean.double().numpy().copy()
    if parameters.noise:
        pattern = noise_pattern(parameters.noise_key[None], *view.shape[:2])[0].double().numpy()
        view = np.clip(view + float(parameters.noise_std) * pattern, 0, 1)
    if parameters.occlusion:
        top, left, height, width = parameters.cover.tolist()
        view[:, top : top + height, left : left + width] = 0.5
    return torch.from_numpy(view).float()


def test_a_defective_view_is_the_view_without_defects_plus_noise_under_a_cover(
    make_canvas: Callable[..., Any],
) -> None:
    canvas = make_canvas()
    plain, defective = (dataclasses.replace(recipe, **BARE) for recipe in (PLAIN, COARSE))  # type: ignore[arg-type]
    kinds = set()
    for seed in range(12):
        parameters = draw_parameters(defective, canvas.sizes, seeded(seed))
        clean = BatchedViews(plain)(canvas.images, canvas.sizes, parameters._replace(defects=None))
        views = BatchedViews(defective)(canvas.images, canvas.sizes, parameters)
        assert parameters.defects is not None
        for index in range(len(canvas.images)):
            one = Defects(*(tensor[index] for tensor in parameters.defects))
            torch.testing.assert_close(views[index], with_defects(clean[index], one), atol=1e-5, rtol=0)
            if not (one.noise or one.occlusion or one.downscale):
                assert torch.equal(views[index], clean[index])
            kinds.add((bool(one.noise), bool(one.occlusion), bool(one.downscale)))
    assert len(kinds) == 8
