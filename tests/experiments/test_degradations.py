from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from experiments.data.degradations import add_noise, occlude


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


GREY = torch.full((4, 3, 32, 32), 0.5)


def test_noise_is_gaussian_with_the_standard_deviation_asked_for() -> None:
    noise = (add_noise(GREY.double(), 0.05, seeded()) - 0.5) / 0.05  # clipping would need ten standard deviations
    assert kstest(noise.flatten().numpy(), "norm").pvalue > 0.01


def test_noise_is_clipped_to_the_range_of_images() -> None:
    noisy = add_noise(GREY, 10.0, seeded())
    assert noisy.min() == 0
    assert noisy.max() == 1


def test_severity_can_differ_between_images() -> None:
    noisy = add_noise(GREY, torch.tensor([0.0, 0.01, 0.02, 0.04]), seeded())
    assert torch.equal(noisy[0], GREY[0])
    assert (noisy[1:] - 0.5).flatten(1).std(1).tolist() == pytest.approx([0.01, 0.02, 0.04], rel=0.05)
    covered = (occlude(GREY, torch.tensor([0.0, 0.25, 0.5625, 1.0]), seeded(), value=0.0) == 0).float()
    assert covered.mean((1, 2, 3)).tolist() == pytest.approx([0.0, 0.25, 0.5625, 1.0])


@pytest.mark.parametrize("side", [8, 16, 33])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
def test_occluder_is_one_square_of_the_asked_area(side: int, fraction: float) -> None:
    covered = occlude(torch.ones(50, 2, side, side), fraction, seeded(), value=0.0) == 0
    assert torch.equal(covered[:, 0], covered[:, 1])
    length = round(math.sqrt(fraction) * side)
    assert (covered[:, 0].any(1).sum(1) == length).all()  # columns touched
    assert (covered[:, 0].any(2).sum(1) == length).all()  # rows touched
    assert (covered[:, 0].sum((1, 2)) == length**2).all()  # and nothing of it missing


def test_occluder_of_an_oblong_image_has_its_proportions() -> None:
    covered = occlude(torch.ones(10, 1, 20, 40), 0.25, seeded(), value=0.0) == 0
    assert (covered[:, 0].any(2).sum(1) == 10).all()
    assert (covered[:, 0].any(1).sum(1) == 20).all()


def test_every_position_of_the_occluder_is_equally_likely() -> None:
    covered = occlude(torch.ones(20_000, 1, 5, 5), 0.16, seeded(), value=0.0) == 0  # 2 × 2: four starts a side
    start = covered[:, 0].any(2).float().argmax(1) * 4 + covered[:, 0].any(1).float().argmax(1)
    counts = torch.bincount(start, minlength=16)
    chi_squared = ((counts - 1250.0) ** 2 / 1250.0).sum()
    assert len(counts) == 16
    assert chi_squared < 37.7  # the 0.1 % point of chi squared with 15 degrees of freedom


def test_occluder_takes_the_asked_value_and_leaves_the_rest() -> None:
    images = torch.rand(8, 3, 16, 16, generator=seeded())
    covered = occlude(images, 0.3, seeded(1))
    changed = covered != images
    assert (covered[changed] == 0.5).all()
    assert 0 < changed.float().mean() < 0.32


def test_equally_seeded_degradations_are_nested() -> None:
    images = torch.ones(200, 1, 16, 16)
    smaller = occlude(images, 0.0, seeded(), value=0.0) == 0
    for fraction in torch.linspace(0.05, 1, 20).tolist():
        larger = occlude(images, fraction, seeded(), value=0.0) == 0
        assert (larger | ~smaller).all()
        smaller = larger
    weak, strong = (add_noise(GREY.double(), s, seeded()) - 0.5 for s in (0.01, 0.03))
    assert torch.allclose(3 * weak, strong, atol=1e-12)


@pytest.mark.parametrize("degrade", [add_noise, occlude])
def test_degradations_are_reproducible_and_leave_their_input_alone(degrade: Any) -> None:
    images = torch.rand(3, 3, 8, 8, generator=seeded())
    before = images.clone()
    first = degrade(images, 0.3, seeded(5))
    assert torch.equal(first, degrade(images, 0.3, seeded(5)))
    assert not torch.equal(first, degrade(images, 0.3, seeded(6)))
    assert torch.equal(images, before)
    assert not torch.equal(first, images)
    assert torch.equal(degrade(images, 0.0, seeded()), images)


@pytest.mark.parametrize("degrade", [add_noise, occlude])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_degradations_keep_shape_and_dtype(degrade: Any, dtype: torch.dtype) -> None:
    images = torch.full((2, 1, 6, 7), 0.25, dtype=dtype)
    degraded = degrade(images, 0.4, seeded())
    assert degraded.shape == images.shape
    assert degraded.dtype == dtype


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("degrade", [add_noise, occlude])
def test_a_generator_on_the_cpu_gives_the_same_degradation_on_a_gpu(degrade: Any) -> None:
    there = degrade(GREY.cuda(), 0.3, seeded())
    assert there.is_cuda
    assert torch.allclose(there.cpu(), degrade(GREY, 0.3, seeded()), atol=1e-6)


ERRORS: dict[str, tuple[Any, tuple[Any, ...], str]] = {
    "no_batch": (add_noise, (GREY[0], 0.1), r"images must be .* of shape \(images, channels, height, width\), got"),
    "bytes": (occlude, (GREY.byte(), 0.1), "images must be floating-point numbers .* got torch.uint8"),
    "range_255": (add_noise, (GREY * 255, 0.1), r"images must have values in \[0, 1\], got 127.5 … 127.5"),
    "nan_images": (occlude, (GREY * math.nan, 0.1), r"images must have values in \[0, 1\]"),
    "negative_noise": (add_noise, (GREY, -0.1), "standard_deviation must be finite and at least 0, got -0.1"),
    "nan_noise": (add_noise, (GREY, math.nan), "standard_deviation must be finite and at least 0, got nan"),
    "noise_shape": (
        add_noise,
        (GREY, torch.ones(3)),
        r"standard_deviation must be a number or a tensor of shape \(4,\), got \(3,\)",
    ),
    "negative_fraction": (occlude, (GREY, -0.1), "fraction must be finite and at least 0"),
    "fraction_above_one": (occlude, (GREY, 1.5), r"fraction must lie in \[0, 1\], got 1.5"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_arguments_are_named(case: str) -> None:
    degrade, arguments, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        degrade(*arguments, seeded())


def test_bad_value_of_the_occluder_is_named() -> None:
    with pytest.raises(ValueError, match=r"value must lie in \[0, 1\], got 2"):
        occlude(GREY, 0.1, seeded(), value=2)


def test_images_of_no_batch_entry_stay_empty() -> None:
    empty: Tensor = torch.zeros(0, 3, 8, 8)
    assert occlude(empty, 0.5, seeded()).shape == empty.shape
