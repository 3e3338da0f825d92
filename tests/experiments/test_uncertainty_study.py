"""κ, its rivals, and the images that they are judged on."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import entropy, spearmanr
from sklearn.metrics import roc_auc_score
from torch import Tensor

from experiments.evaluation.uncertainty.ambiguity import WEIGHTS, partners, superpose
from experiments.evaluation.uncertainty.measures import Measure, measure, measures
from experiments.evaluation.uncertainty.observations import FreshViews, Observations
from experiments.evaluation.uncertainty.report import combine, measures_table, networks_table, warnings
from experiments.evaluation.uncertainty.rivals import EDGES, KAPPA, edge_energy, jpeg_bytes, pixel_entropy
from experiments.images.degradations import DEGRADATIONS
from inference.judging.resampling import Estimate
from ssl_as_inference.distributions import PowerSpherical


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=seeded(seed))


@pytest.mark.parametrize("channels", [1, 3])
def test_edge_energy_is_the_mean_squared_step_to_the_neighbours(channels: int) -> None:
    images = draw(4, channels, 6, 9)
    for image, energy in zip(images.numpy(), edge_energy(images).tolist(), strict=True):
        steps = [np.diff(image, axis=axis) for axis in (1, 2)]
        assert energy == pytest.approx(sum(float((step**2).mean()) for step in steps), rel=1e-5)
    assert edge_energy(torch.ones(2, channels, 1, 1)).tolist() == [0, 0]


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_size_is_that_of_pillows_file(channels: int) -> None:
    images = draw(3, channels, 20, 30)
    for image, size in zip(images, jpeg_bytes(images).tolist(), strict=True):
        pixels = (255 * image).round().byte().permute(1, 2, 0).squeeze(-1).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=75)
        assert size == len(file.getvalue())


def test_pixel_entropy_is_that_of_scipy() -> None:
    images = draw(3, 3, 16, 16)
    for image, bits in zip(images, pixel_entropy(images).tolist(), strict=True):
        counts = np.bincount((255 * image.mean(0)).round().byte().flatten().numpy(), minlength=256)
        assert bits == pytest.approx(float(entropy(counts, base=2)), abs=1e-5)


def test_superposition_is_the_mixture_with_the_contrast_of_its_parts() -> None:
    first, second = 0.4 + 0.2 * draw(5, 3, 8, 8), 0.4 + 0.1 * draw(5, 3, 8, 8, seed=1)  # far from clipping
    for weight in WEIGHTS:
        mixed = superpose(first, second, weight)
        wanted = (1 - weight) * first.std((1, 2, 3), correction=0) + weight * second.std((1, 2, 3), correction=0)
        assert torch.allclose(mixed.std((1, 2, 3), correction=0), wanted, rtol=1e-4)
        plain = (1 - weight) * first + weight * second
        assert torch.allclose(mixed.mean((1, 2, 3)), plain.mean((1, 2, 3)), atol=1e-5)
        together = torch.stack([mixed.flatten(1), plain.flatten(1)], dim=1)
        assert all(torch.corrcoef(pair)[0, 1] > 1 - 1e-5 for pair in together)
    assert torch.allclose(superpose(first, second, 0.0), first, atol=1e-6)
    assert torch.allclose(superpose(first, second, 1.0), second, atol=1e-6)


def test_images_that_cancel_leave_grey() -> None:
    image = draw(1, 1, 4, 4)
    assert torch.isfinite(superpose(image, 1 - image, 0.5)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: superpose(draw(1, 1, 4, 4), draw(1, 1, 4, 5), 0.5), "first and second must have one shape"),
        (lambda: superpose(draw(1, 1, 4, 4), draw(1, 1, 4, 4), 1.5), r"weight must lie in \[0, 1\], got 1.5"),
    ],
    ids=["shape", "weight"],
)
def test_bad_superpositions_are_named(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_partners_are_of_the_class_asked_for_and_equally_likely() -> None:
    labels = torch.tensor([0, 1, 0, 2, 0, 1])
    counts = {same: torch.zeros(6, 6) for same in (True, False)}
    for seed in range(600):
        for same, count in counts.items():
            partner = partners(labels, seeded(seed), same_class=same)
            there = partner >= 0
            count[torch.arange(6)[there], partner[there]] += 1
    equal = labels[:, None] == labels[None]
    for same, count in counts.items():
        allowed = (equal if same else ~equal) & ~torch.eye(6, dtype=torch.bool)
        assert (count[~allowed] == 0).all()
        for row, options in zip(count, allowed, strict=True):
            if options.any():
                expected = 600 / int(options.sum())
                assert (row[options] - expected).abs().max() < 4.5 * math.sqrt(expected)
    assert partners(labels, seeded(), same_class=True)[3] == -1  # the only one of its class


def test_the_first_level_of_a_degradation_is_the_image_and_the_others_are_not() -> None:
    images = draw(3, 3, 32, 32)
    for series in DEGRADATIONS:
        assert torch.allclose(series(images, 0), images, atol=1e-6)
        distances = [(series(images, level) - images).square().mean() for level in range(len(series))]
        assert distances == sorted(distances)
        assert distances[1] > 0
        assert torch.equal(series(images, 2, seed=3), series(images, 2, seed=3))


def known(images: int = 80, *, seed: int = 0) -> Observations:
    """Observations made up: κ follows everything, the other uncertainty nothing."""
    noise = torch.rand(images, generator=seeded(seed), dtype=torch.float64)
    right = noise < 0.6
    levels = torch.arange(6, dtype=torch.float64)[:, None]
    kappa = 100 - 50 * noise
    blank = torch.rand(6, images, generator=seeded(seed + 1), dtype=torch.float64)

    def both(u: Tensor, other: Tensor) -> dict[str, Tensor]:
        return {KAPPA: u, EDGES: other}

    fresh_kappa = 10 + 90 * noise
    expected = fresh_kappa / (fresh_kappa + 31)
    return Observations(
        clean=both(-kappa, blank[0]),
        degraded={name: both(-kappa + levels, blank) for name in ("blur", "noise")},
        cropped=both(-kappa + 1, blank[0] - 1),
        foreign={"woof": both(torch.zeros(30, dtype=torch.float64), blank[0, :30])},
        ambiguous=both(-kappa / 1000 + levels, blank),
        control=both(-kappa, blank) | {KAPPA: (-kappa).expand(6, images)},
        classes=torch.arange(images) % 3,
        neighbour_is_right=right,
        probe_is_right=right,
        fresh=FreshViews(32, PowerSpherical, fresh_kappa, expected, expected),
        standard_deviation=0.9,
        effective_rank=20.0,
    )


def test_an_uncertainty_that_follows_everything_meets_every_aim() -> None:
    measured = measure(known(), resamples=20)
    verdicts = {
        row.name: row.met(measured[row.name][KAPPA]) for row in measures(known()) if KAPPA in measured[row.name]
    }
    assert all(verdict is not False for verdict in verdicts.values()), verdicts
    assert measured["U1 Spearman with severity: blur"][KAPPA].value == pytest.approx(1)
    assert measured["U2 P(u of crop > u of whole)"][KAPPA].value == 1
    assert measured["U2 P(u of crop > u of whole)"][EDGES].value == 0
    assert measured["U3 R-AUROC"][KAPPA].value == measured["U3 R-AUROC within classes"][KAPPA].value == 1
    lead = measured["U3 κ's R-AUROC minus this one's"]
    assert set(lead) == {EDGES}
    assert lead[EDGES].value == 1 - measured["U3 R-AUROC"][EDGES].value
    assert lead[EDGES].low > 0
    assert measured["U4 AURC above the oracle's (less is better)"][KAPPA].value == pytest.approx(0, abs=1e-12)
    assert measured["U5 AUROC against woof"][KAPPA].value == 1
    assert measured["U6 largest gap of expected and seen cosine"][KAPPA].value == pytest.approx(0, abs=1e-12)
    assert math.isnan(measured["U6 mean gap"][KAPPA].low)  # the bootstrap's interval of a gap would not hold it
    assert measured["U7 nats per dimension gained over one κ for all"][KAPPA].value > 0
    assert measured["U8 Spearman with ambiguity"][KAPPA].value > 0.9
    assert measured["U8 control: the same for superpositions of one class"][KAPPA].value == pytest.approx(0, abs=1e-12)
    assert EDGES not in measured["U7 nats per dimension gained over one κ for all"]


def test_measures_of_an_arbitrary_uncertainty_are_those_of_scipy_and_scikit_learn() -> None:
    probed = draw(80, seed=9) < 0.5  # right elsewhere than the nearest neighbour
    seen = replace(known(seed=7), probe_is_right=probed)
    measured = measure(seen, resamples=5)
    u, levels = seen.degraded["noise"][EDGES], np.arange(6)
    expected = np.mean([spearmanr(column.numpy(), levels).statistic for column in u.T])
    assert measured["U1 Spearman with severity: noise"][EDGES].value == pytest.approx(expected, abs=1e-12)
    assert seen.neighbour_is_right is not None
    auroc = roc_auc_score(seen.neighbour_is_right.numpy(), -seen.clean[EDGES].numpy())
    assert measured["U3 R-AUROC"][EDGES].value == pytest.approx(auroc, abs=1e-12)
    risk = np.cumsum(~probed[seen.clean[EDGES].argsort()].numpy()) / np.arange(1, 81)
    assert measured["U4 AURC (less is better)"][EDGES].value == pytest.approx(risk.mean(), abs=1e-12)
    foreign = torch.cat([seen.clean[EDGES], seen.foreign["woof"][EDGES]])
    auroc = roc_auc_score([0] * 80 + [1] * 30, foreign.numpy())
    assert measured["U5 AUROC against woof"][EDGES].value == pytest.approx(auroc, abs=1e-12)
    pooled = spearmanr(seen.ambiguous[EDGES].flatten().numpy(), levels.repeat(80)).statistic
    assert measured["U8 Spearman with ambiguity"][EDGES].value == pytest.approx(pooled, abs=1e-12)
    kappa, edges = (seen.degraded["blur"][name].flatten().numpy() for name in (KAPPA, EDGES))
    level = levels.repeat(80)
    ul, ue, le = (spearmanr(a, b).statistic for a, b in ((kappa, level), (kappa, edges), (level, edges)))
    partial = (ul - ue * le) / math.sqrt((1 - ue**2) * (1 - le**2))
    given = measured["Partial correlation with severity, given edge energy"][KAPPA].value
    assert given == pytest.approx(partial, abs=1e-12)  # both degradations are the same here


def without_labels(seen: Observations) -> Observations:
    return Observations(
        **{
            **vars(seen),
            "classes": None,
            "neighbour_is_right": None,
            "probe_is_right": None,
            "ambiguous": {},
            "control": {},
        }
    )


def test_without_labels_what_needs_them_is_left_out() -> None:
    names = [row.name for row in measures(without_labels(known()))]
    assert not any(name.startswith(("U3", "U4", "U8")) for name in names)
    assert set(measure(without_labels(known()), resamples=2)) == set(names)


def test_a_constant_concentration_is_not_judged() -> None:
    seen = known()
    constant = Observations(**{**vars(seen), "clean": {**seen.clean, KAPPA: torch.full((80,), -1.0).double()}})
    assert constant.names == [EDGES]
    assert KAPPA not in measure(constant, resamples=2)["U3 R-AUROC"]
    assert any("κ is constant" in warning for warning in warnings([constant] * 3))


@pytest.mark.parametrize(("deviation", "rank", "void"), [(0.9, 20.0, False), (0.01, 20.0, True), (0.9, 1.2, True)])
def test_everything_is_void_under_collapse(deviation: float, rank: float, void: bool) -> None:
    seen = Observations(**{**vars(known()), "standard_deviation": deviation, "effective_rank": rank})
    assert any("VOID" in warning for warning in warnings([known(), seen, known()])) is void


def test_fewer_than_three_seeds_are_called_so() -> None:
    assert warnings([known()]) == ("Only 1 seed: no statement about seeds.",)
    assert warnings([known()] * 3) == ()


@pytest.mark.parametrize(
    ("row", "estimate", "met"),
    [
        (Measure("a", 0.6), Estimate(0.6, 0.4, 0.7), True),
        (Measure("a", 0.6), Estimate(0.59, 0.4, 0.7), False),
        (Measure("a", 0.6, interval_beyond=0.5), Estimate(0.7, 0.49, 0.8), False),
        (Measure("a", 0.6, interval_beyond=0.5), Estimate(0.7, 0.51, 0.8), True),
        (Measure("a", 0.03, at_most=True), Estimate(0.02, 0.0, 0.1), True),
        (Measure("a", 0.03, at_most=True), Estimate(0.04, 0.0, 0.1), False),
        (Measure("a"), Estimate(0.9, 0.8, 1.0), None),
        (Measure("a", 0.6), Estimate(math.nan, math.nan, math.nan), None),
    ],
)
def test_an_aim_is_met_or_not(row: Measure, estimate: Estimate, met: bool | None) -> None:
    assert row.met(estimate) is met


def test_an_aim_is_met_only_if_every_seed_meets_it() -> None:
    rows = [Measure("U", 0.6), Measure("V")]
    good, bad = Estimate(0.7, 0.65, 0.75), Estimate(0.5, 0.4, 0.6)
    table = measures_table(rows, [KAPPA, EDGES], [{"U": {KAPPA: good, EDGES: bad}, "V": {KAPPA: good}}] * 2)
    assert table.rows["U"]["aim"].text == "≥ 0.6: met"
    table = measures_table(rows, [KAPPA], [{"U": {KAPPA: good}, "V": {}}, {"U": {KAPPA: bad}, "V": {}}])
    assert table.rows["U"]["aim"].text == "≥ 0.6: not met"
    assert table.rows["U"][KAPPA] == combine([good, bad])
    assert KAPPA not in table.rows["V"]


def test_seeds_that_do_not_all_have_a_value_have_no_mean() -> None:
    cell = combine([Estimate(math.nan, math.nan, math.nan), Estimate(0.5, 0.4, 0.6)])
    assert cell.value is None
    assert cell.each[1] == 0.5


def test_the_encoders_are_shown_with_what_a_collapse_would_show_in() -> None:
    row = networks_table(["seed 0"], [known()]).rows["seed 0"]
    assert row["standard deviation"].value == 0.9
    assert row["effective rank"].value == 20.0
    assert row["κ: median"].value == pytest.approx(75, abs=5)
