from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.stats import kstest
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.v2.functional import crop as torchvision_crop  # type: ignore[attr-defined]
from torchvision.transforms.v2.functional import resize  # type: ignore[attr-defined]

from experiments.images.degradations import add_noise, blur, crop, downscale, occlude


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
    covered = (occlude(torch.ones_like(GREY), torch.tensor([0.0, 0.25, 0.5625, 1.0]), seeded()) == 0.5).float()
    assert covered.mean((1, 2, 3)).tolist() == pytest.approx([0.0, 0.25, 0.5625, 1.0])


@pytest.mark.parametrize("side", [8, 16, 33])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
def test_occluder_is_one_square_of_the_asked_area(side: int, fraction: float) -> None:
    covered = occlude(torch.ones(50, 2, side, side), fraction, seeded()) == 0.5
    assert torch.equal(covered[:, 0], covered[:, 1])
    length = round(math.sqrt(fraction) * side)
    assert (covered[:, 0].any(1).sum(1) == length).all()  # columns touched
    assert (covered[:, 0].any(2).sum(1) == length).all()  # rows touched
    assert (covered[:, 0].sum((1, 2)) == length**2).all()  # and nothing of it missing


def test_occluder_of_an_oblong_image_has_its_proportions() -> None:
    covered = occlude(torch.ones(10, 1, 20, 40), 0.25, seeded()) == 0.5
    assert (covered[:, 0].any(2).sum(1) == 10).all()
    assert (covered[:, 0].any(1).sum(1) == 20).all()


def test_every_position_of_the_occluder_is_equally_likely() -> None:
    covered = occlude(torch.ones(20_000, 1, 5, 5), 0.16, seeded()) == 0.5  # 2 × 2: four starts a side
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
    smaller = occlude(images, 0.0, seeded()) == 0.5
    for fraction in torch.linspace(0.05, 1, 20).tolist():
        larger = occlude(images, fraction, seeded()) == 0.5
        assert (larger | ~smaller).all()
        smaller = larger
    weak, strong = (add_noise(GREY.double(), s, seeded()) - 0.5 for s in (0.01, 0.03))
    assert torch.allclose(3 * weak, strong, atol=1e-12)


@pytest.mark.parametrize("degrade", [add_noise, occlude, crop])
def test_degradations_are_reproducible_and_leave_their_input_alone(degrade: Any) -> None:
    images = torch.rand(3, 3, 8, 8, generator=seeded())
    before = images.clone()
    first = degrade(images, 0.3, seeded(5))
    assert torch.equal(first, degrade(images, 0.3, seeded(5)))
    assert not torch.equal(first, degrade(images, 0.3, seeded(6)))
    assert torch.equal(images, before)
    assert not torch.equal(first, images)
    assert torch.equal(degrade(images, 0.0, seeded()), images)


@pytest.mark.parametrize("degrade", [add_noise, occlude, crop])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_degradations_keep_shape_and_dtype(degrade: Any, dtype: torch.dtype) -> None:
    images = torch.full((2, 1, 6, 7), 0.25, dtype=dtype)
    degraded = degrade(images, 0.4, seeded())
    assert degraded.shape == images.shape
    assert degraded.dtype == dtype


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("degrade", [add_noise, occlude, crop])
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
        r"standard_deviation must be a number or of shape \(4,\), got \(3,\)",
    ),
    "negative_fraction": (occlude, (GREY, -0.1), "fraction must be finite and at least 0"),
    "fraction_above_one": (occlude, (GREY, 1.5), r"fraction must lie in \[0, 1\], got 1.5"),
    "crop_above_one": (crop, (GREY, 1.5), r"removed must lie in \[0, 1\], got 1.5"),
    "crop_negative": (crop, (GREY, -0.5), "removed must be finite and at least 0"),
}
SURE_ERRORS: dict[str, tuple[Any, tuple[Any, ...], str]] = {
    "blur_negative": (blur, (GREY, -1.0), "standard_deviation must be finite and at least 0"),
    "blur_range": (blur, (GREY - 1, 1.0), r"images must have values in \[0, 1\]"),
    "enlarging": (downscale, (GREY, 0.5), r"factor must be finite and at least 1, got 0.5"),
    "factor_shape": (
        downscale,
        (GREY, torch.ones(2)),
        r"factor must be a number or of shape \(4,\), got \(2,\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_arguments_are_named(case: str) -> None:
    degrade, arguments, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        degrade(*arguments, seeded())


@pytest.mark.parametrize("case", SURE_ERRORS)
def test_bad_arguments_of_degradations_without_chance_are_named(case: str) -> None:
    degrade, arguments, message = SURE_ERRORS[case]
    with pytest.raises(ValueError, match=message):
        degrade(*arguments)


def test_images_of_no_batch_entry_stay_empty() -> None:
    empty: Tensor = torch.zeros(0, 3, 8, 8)
    assert occlude(empty, 0.5, seeded()).shape == empty.shape


@pytest.mark.parametrize("sigma", [0.25, 0.75, 2.0, 7.0])
@pytest.mark.parametrize("shape", [(9, 9), (16, 23), (1, 5)], ids=str)
def test_blur_is_that_of_scipy_with_mirrored_borders(sigma: float, shape: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *shape, dtype=torch.float64, generator=seeded())
    expected = images.numpy()
    for axis in (-2, -1):
        expected = gaussian_filter1d(expected, sigma, axis=axis, mode="reflect", truncate=12 / min(sigma, 1))
    assert (blur(images, sigma) - torch.from_numpy(expected)).abs().max() < 1e-12


def test_a_very_wide_blur_leaves_the_mean_and_none_leaves_the_image() -> None:
    images = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=seeded())
    assert torch.allclose(blur(images, 100.0), images.mean((-2, -1), keepdim=True).expand_as(images), atol=1e-12)
    assert torch.equal(blur(images, 0.0), images)
    assert torch.allclose(blur(GREY, 3.0), GREY, atol=1e-6)


def test_blur_crop_and_downscale_take_a_severity_for_each_image() -> None:
    images = torch.rand(3, 2, 12, 12, generator=seeded())
    for degrade, severities in ((blur, [0.0, 1.0, 3.0]), (crop, [0.0, 0.3, 0.8]), (downscale, [1.0, 2.0, 5.0])):
        together = degrade(images, torch.tensor(severities))
        for image, severity in enumerate(severities):
            alone = degrade(images[image : image + 1], severity)
            assert torch.allclose(together[image], alone[0], atol=1e-6)
        assert torch.allclose(together[0], images[0], atol=1e-6)


@pytest.mark.parametrize("removed", [0.1, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("shape", [(16, 16), (9, 14)], ids=str)
def test_crop_of_the_middle_is_that_of_torchvision(removed: float, shape: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *shape, dtype=torch.float64, generator=seeded())
    kept = [max(1, round((1 - removed) * side)) for side in shape]
    top, left = ((side - length + 1) // 2 for side, length in zip(shape, kept, strict=True))
    middle = torchvision_crop(images, top, left, kept[0], kept[1])
    expected = interpolate(middle, shape, mode="bilinear", align_corners=False)
    assert (crop(images, removed) - expected).abs().max() < 1e-12


def test_random_crops_show_parts_of_the_image_at_equally_likely_positions_and_are_nested() -> None:
    ramp = torch.linspace(0, 1, 9, dtype=torch.float64).expand(4000, 1, 9, 9)
    wide, tight = crop(ramp, 0.4, seeded()), crop(ramp, 0.8, seeded())  # 5 and 2 of 9 pixels
    starts = (tight.amin((1, 2, 3)) * 8).round().long()
    counts = torch.bincount(starts, minlength=8)
    assert len(counts) == 8
    assert ((counts - 500.0) ** 2 / 500.0).sum() < 24.3  # the 0.1 % point of chi squared with 7 degrees of freedom
    assert (tight.amin((1, 2, 3)) >= wide.amin((1, 2, 3)) - 1e-12).all()
    assert (tight.amax((1, 2, 3)) <= wide.amax((1, 2, 3)) + 1e-12).all()


@pytest.mark.parametrize("factor", [1.0, 1.5, 2.0, 4.0, 100.0])
def test_downscaling_is_that_of_torchvision(factor: float) -> None:
    images = torch.rand(2, 3, 16, 20, generator=seeded())
    smaller = resize(images, [max(1, round(16 / factor)), max(1, round(20 / factor))], antialias=True)
    expected = resize(smaller, [16, 20], antialias=True)
    assert torch.allclose(downscale(images, factor), expected, atol=1e-6)


@pytest.mark.parametrize("degrade", [blur, downscale, crop])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degradations_without_chance_keep_dtype_and_range(degrade: Any, dtype: torch.dtype) -> None:
    images = (torch.rand(3, 1, 7, 9, generator=seeded()) > 0.5).to(dtype)
    degraded = degrade(images, 1.0)
    assert degraded.dtype == dtype
    assert degraded.shape == images.shape
    assert degraded.min() >= 0
    assert degraded.max() <= 1
