"""What says that a training is recovered, or that a limit shows, on steps and trainings whose answers are known."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor, nn

from experiments.special_cases.recovery import (
    TOLERANCES,
    Sgd,
    Step,
    Training,
    is_recovered,
    largest_differences,
    steps_of,
)

EQUAL = Step(1.0, 1.0, 0.0, 0.0, 0.0, 0.0)


class Line(nn.Module):
    """A weight and a buffer that change, and a weight and a buffer that never do."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.still = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.register_buffer("constant", torch.zeros(1, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(2, dtype=torch.float64))


def descending(slope: float, *, counts: float) -> Training:
    """A loss `slope` · w whose steps are −slope/2, and a buffer that grows by `counts` in each."""
    line = Line()
    return Training(
        lambda views: slope * line.weight[0] + 0 * line.still[0] * views[0].sum(),
        nn.ModuleList([line]),
        Sgd(0.5, momentum=0.0, weight_decay=0.0),
        update=lambda: line.count[0].add_(counts),
    )


def test_each_step_is_compared_by_what_the_two_trainings_differ_in() -> None:
    ours, published = descending(3.0, counts=2.0), descending(1.0, counts=0.0)
    steps = list(steps_of(ours, published, [[torch.ones(1)]] * 3))
    for number, step in enumerate(steps):  # weights −3s/2 and −s/2 before step s, losses −9s/2 and −s/2
        assert asdict(step) == {
            "ours": -4.5 * number,
            "published": -0.5 * number,
            "loss": 4.0 * number,
            "gradient": 2.0,
            "weights": 1.0 * (number + 1),
            "buffers": 2.0 * (number + 1),
        }
    assert largest_differences(steps) == {"loss": 8.0, "gradient": 2.0, "weights": 3.0, "buffers": 6.0}


@pytest.mark.parametrize("name", TOLERANCES)
def test_one_difference_of_one_step_is_enough_not_to_be_recovered(name: str) -> None:
    for factor, recovered in ((0.99, True), (1.01, False)):
        steps = [EQUAL, replace(EQUAL, **{name: factor * TOLERANCES[name]}), EQUAL]
        assert largest_differences(steps)[name] == factor * TOLERANCES[name]
        assert is_recovered(steps) is recovered
