"""Several seeds together: intervals over them, and their ensemble."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from experiments.evaluation.uncertainty.ensemble import differ_in_seed_alone, ensemble_name, with_ensemble
from experiments.evaluation.uncertainty.measures import measure
from experiments.evaluation.uncertainty.observations import FreshViews, Observations
from experiments.evaluation.uncertainty.report import combine, over_seeds, seeds_table
from experiments.evaluation.uncertainty.rivals import EDGES, KAPPA, Uncertainties
from experiments.pretraining.configuration import EngineConfig, PretrainConfig, TrainingConfig
from experiments.records.record import Cell, Table
from inference.judging.resampling import Estimate
from ssl_as_inference.distributions import PowerSpherical

IMAGES, FOREIGN, LEVELS = 50, 20, 6


@pytest.mark.parametrize("values", [[0.1, 0.4], [0.5, 0.6, 0.7], [-0.2, 0.3, 0.25, 0.9, 0.1]], ids=len)
def test_the_interval_over_seeds_is_scipys_of_students_t(values: list[float]) -> None:
    cell = over_seeds(values)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert cell.value == pytest.approx(np.mean(values), abs=1e-15)
    assert (cell.low, cell.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert cell.each == tuple(values)


def test_the_interval_over_seeds_covers_the_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(0.3, 0.1, (4000, 3)).tolist()
    cells = [over_seeds(draw) for draw in draws]
    covered = sum(cell.low <= 0.3 <= cell.high for cell in cells if cell.low is not None and cell.high is not None)
    assert stats.binomtest(covered, 4000, 0.95).pvalue > 1e-3


def test_one_seed_has_no_interval_over_seeds() -> None:
    with pytest.raises(ValueError, match="values must be of two seeds or more, got 1"):
        over_seeds([0.5])


def test_what_does_not_depend_on_the_seed_has_no_interval_over_seeds() -> None:
    assert over_seeds([0.7, 0.7, 0.7]) == Cell(0.7, each=(0.7, 0.7, 0.7))


def test_a_measure_without_intervals_has_none_over_the_seeds_either() -> None:
    found = combine([Estimate(0.5, math.nan, math.nan), Estimate(0.7, math.nan, math.nan)])
    assert found == Cell(0.6, each=(0.5, 0.7))


def test_the_table_over_seeds_has_the_same_means_without_aims_and_ensembles() -> None:
    cells = {KAPPA: Cell(0.6, 0.1, 0.9, (0.5, 0.7)), "aim": Cell(text="met"), "E": Cell(0.5, 0.4, 0.6, (0.5, 0.5))}
    unknown = {KAPPA: Cell(None, each=(0.5, None)), "aim": Cell(text=" ")}
    found = seeds_table(Table("T", (KAPPA, "aim", "E"), {"U": cells, "V": unknown}), without=("aim", "E"))
    assert found.columns == (KAPPA,)
    assert found.rows["U"] == {KAPPA: over_seeds([0.5, 0.7])}
    assert found.rows["V"][KAPPA].value is None
    assert "2 seeds" in found.note
    assert "1 degree of freedom" in found.note


def test_trainings_that_differ_in_the_seed_alone_are_recognised() -> None:
    config = PretrainConfig()
    second = replace(config, seed=1, out="elsewhere", engine=EngineConfig(threads=2))
    assert differ_in_seed_alone([config, second])
    assert not differ_in_seed_alone([config])
    assert not differ_in_seed_alone([config, config])
    assert not differ_in_seed_alone([config, replace(second, training=TrainingConfig(epochs=3))])
    assert not differ_in_seed_alone([config, replace(second, data=replace(config.data, name="imagewoof"))])
    assert not differ_in_seed_alone([config, replace(second, init_from="an.encoder")])


def member(seed: int, *, scale: float = 1.0, power: float = 1.0) -> Observations:
    """Made up: κ at random, on a scale of the member's own."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    def look(*shape: int) -> Uncertainties:
        return {KAPPA: -scale * (1 + 50 * draw(*shape)) ** power, EDGES: draw(*shape)}

    cosine = draw(IMAGES)
    return Observations(
        clean=look(IMAGES),
        degraded={"blur": look(LEVELS, IMAGES), "noise": look(LEVELS, IMAGES)},
        cropped=look(IMAGES),
        foreign={"woof": look(FOREIGN)},
        ambiguous=look(LEVELS, IMAGES),
        control=look(LEVELS, IMAGES),
        classes=torch.arange(IMAGES) % 3,
        neighbour_is_right=draw(IMAGES) < 0.6,
        probe_is_right=draw(IMAGES) < 0.7,
        fresh=FreshViews(32, PowerSpherical, 1 + draw(IMAGES), cosine, cosine),
        standard_deviation=0.9,
        effective_rank=20.0,
    )


PLACES: dict[str, Callable[[Observations], Uncertainties]] = {
    "clean": lambda seen: seen.clean,
    "blur": lambda seen: seen.degraded["blur"],
    "noise": lambda seen: seen.degraded["noise"],
    "cropped": lambda seen: seen.cropped,
    "woof": lambda seen: seen.foreign["woof"],
    "ambiguous": lambda seen: seen.ambiguous,
    "control": lambda seen: seen.control,
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_the_ensemble_is_the_mean_of_log_concentrations_in_units_of_the_clean_images(
    place: Callable[[Observations], Uncertainties],
) -> None:
    members = [member(seed, scale=10.0**seed) for seed in range(3)]
    expected = np.zeros(place(members[0])[KAPPA].shape)
    for seen in members:
        clean = np.log(-seen.clean[KAPPA].numpy())
        expected -= (np.log(-place(seen)[KAPPA].numpy()) - clean.mean()) / clean.std() / 3
    for before, after in zip(members, with_ensemble(members), strict=True):
        assert np.allclose(place(after)[ensemble_name(3)].numpy(), expected, atol=1e-12)
        assert list(place(after)) == [KAPPA, ensemble_name(3), EDGES]
        assert all(torch.equal(place(after)[name], u) for name, u in place(before).items())


def test_units_and_powers_of_a_members_concentration_change_nothing() -> None:
    plain = with_ensemble([member(0), member(1)])[0]
    other = with_ensemble([member(0, scale=100.0), member(1, power=0.5)])[0]
    for place in PLACES.values():
        assert torch.allclose(place(plain)[ensemble_name(2)], place(other)[ensemble_name(2)], atol=1e-9)


def test_an_ensemble_of_one_network_with_itself_ranks_as_that_network() -> None:
    seen = with_ensemble([member(0), member(0)])[0]
    measured = measure(seen, resamples=2)
    for name, row in measured.items():
        if name.startswith(("U6", "U7")):
            assert ensemble_name(2) not in row
        else:
            expected = row[KAPPA].value if KAPPA in row else 0.0  # of κ's lead over it
            assert row[ensemble_name(2)].value == pytest.approx(expected, abs=1e-12), name


def test_without_superpositions_there_are_none_of_the_ensemble() -> None:
    members = [replace(member(seed), ambiguous={}, control={}) for seed in range(2)]
    assert with_ensemble(members)[1].ambiguous == {}


def test_what_makes_no_ensemble_is_refused() -> None:
    with pytest.raises(ValueError, match="observations must be of two members or more, got 1"):
        with_ensemble([member(0)])
    constant = replace(member(1), clean={KAPPA: torch.full((IMAGES,), -1.0).double(), EDGES: torch.zeros(IMAGES)})
    with pytest.raises(ValueError, match="got a constant one"):
        with_ensemble([member(0), constant])
    fewer = replace(member(1), cropped={KAPPA: -torch.ones(3).double()})
    with pytest.raises(ValueError, match="observations must be of the same images"):
        with_ensemble([member(0), fewer])
