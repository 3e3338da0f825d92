from __future__ import annotations

import math
import warnings

import pytest
import torch

from inference.fitting.schedule import CosineSchedule


def test_the_schedule_is_torchs_cosine_annealing_in_closed_form() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    ours = CosineSchedule(0.3, steps=50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no step of the optimiser
        for step in range(50):
            assert math.isclose(optimizer.param_groups[0]["lr"], ours(step), rel_tol=1e-12, abs_tol=1e-15)
            theirs.step()


def test_the_rate_rises_to_its_largest_value_and_falls_to_zero() -> None:
    schedule = CosineSchedule(1.0, steps=20, warmup=4)
    rates = [schedule(step) for step in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert schedule(20) == pytest.approx(0.0, abs=1e-15)
    assert schedule(30) == pytest.approx(0.0, abs=1e-15)  # and does not rise again


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0, "steps": 3}, "rate must be positive and finite, got 0.0"),
        ({"rate": math.nan, "steps": 3}, "rate must be positive and finite, got nan"),
        ({"rate": 1.0, "steps": 3, "warmup": 3}, "warmup must be at least 0 and less than steps, 3, got 3"),
        ({"rate": 1.0, "steps": 3, "warmup": -1}, "warmup must be at least 0"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CosineSchedule(**options)  # type: ignore[arg-type]
