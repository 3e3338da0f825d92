from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from inference.fitting.finiteness import NotFiniteError, StepRecord, StepValues, read_records

IMAGES = 4


def record(step: int = 0, loss: float = 1.0, norm: float = 2.0, **changes: Any) -> StepRecord:
    fields: dict[str, Any] = {
        "log_densities": (torch.zeros(IMAGES), torch.zeros(IMAGES)),
        "concentrations": (torch.ones(IMAGES), torch.ones(IMAGES)),
        "log_normalizer": None,
        **changes,
    }
    return StepRecord(step, torch.tensor(loss), gradient_norm=torch.tensor(norm), **fields)


def with_value(value: float, image: int = 1) -> Tensor:
    values = torch.ones(IMAGES)
    values[image] = value
    return values


def test_numbers_of_good_steps_are_read() -> None:
    assert read_records([]) == []
    assert read_records([record(3, 0.5, 0.25), record(4)]) == [StepValues(3, 0.5, 0.25), StepValues(4, 1.0, 2.0)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (record(7, 1.5, math.inf), r"step 7: the loss is 1.5, but the norm of its gradient is inf"),
        (
            record(7, math.nan, concentrations=(torch.ones(IMAGES), with_value(math.inf)),
                   log_densities=(torch.zeros(IMAGES), with_value(math.nan))),
            r"step 7: the loss is nan: the expert of view 2 has a concentration κ of inf in 1 of 4 images",
        ),
        (
            record(7, math.inf, log_densities=(with_value(-math.inf), torch.zeros(IMAGES))),
            r"the expert of view 1 has density 0 at the guide's z \(a cosine of −1, with a finite κ\) in 1 of 4 images",
        ),
        (
            record(7, math.nan, log_densities=(torch.zeros(IMAGES), with_value(math.nan))),
            r"the cosine between the mean direction of view 2's expert and the guide's z is not a number .* in 1 of 4",
        ),
        (record(7, math.nan, log_normalizer=with_value(math.nan)), "the normaliser of the product of experts is not"),
        (record(7, math.inf), "every term is finite, their sum is not"),
    ],
    ids=["gradient", "concentration", "opposite", "direction", "normaliser", "sum"],
)  # fmt: skip
def test_the_first_bad_step_is_named_with_the_term_that_made_it_so(bad: StepRecord, message: str) -> None:
    after = record(8, math.nan, math.nan)
    with pytest.raises(NotFiniteError, match=message) as caught:
        read_records([record(6), bad, after])
    assert caught.value.step == 7


def test_a_constant_concentration_is_understood() -> None:
    bad = record(0, math.nan, concentrations=(torch.tensor(1.0),) * 2, log_densities=(with_value(math.nan),) * 2)
    with pytest.raises(NotFiniteError, match="direction of view 1"):
        read_records([bad])
