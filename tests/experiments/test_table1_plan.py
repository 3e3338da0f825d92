"""Table 1: what is to be run is what the configurations say, and what comes out is averaged as statistics teaches."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats

from experiments import pretrain
from experiments.images.image_sets import ArraySource, ImageSet
from experiments.pretraining import images as pretraining_images
from experiments.pretraining.configuration import DataConfig, PretrainConfig
from experiments.pretraining.images import open_part
from experiments.studies.intervals import mean_interval, paired_differences
from experiments.studies.planning import TUNING_SEED, Plan, chosen_rate, differing
from experiments.studies.report import Outcomes, make_record
from experiments.studies.rows import PRINTED_RATE, Method, Row, rows
from experiments.studies.scales import SCALES

CONFIGS = Path(pretrain.__file__).parent / "configs"
SETS = ("imagenette", "imagewoof")
RATES: dict[tuple[str, Method], float] = {
    ("imagenette", "simsiam"): 0.1,
    ("imagenette", "vi_simsiam"): 0.03,
    ("imagewoof", "simsiam"): 0.01,
    ("imagewoof", "vi_simsiam"): 0.1,
}


def plan_of(*keys: str, scale: str = "full", sets: tuple[str, ...] = SETS, out: Path = Path("runs")) -> Plan:
    chosen = tuple(row for row in rows(2048) if row.key in keys)
    return Plan(SCALES[scale], chosen, sets, (0, 1, 2), out, {})


def written(*files: str) -> PretrainConfig:
    """What `experiments.pretrain` makes of files in experiments/configs."""
    arguments = [part for file in files for part in ("--config", str(CONFIGS / f"{file}.yaml"))]
    return pretrain.parse(arguments)[0]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    ("row", "files"),
    [
        ("simsiam", ["{}_simsiam", "changes/tuned_simsiam"]),
        ("vi_simsiam", ["{}_vi_simsiam", "changes/tuned_vi_simsiam"]),
        ("simsiam_printed_rate", ["{}_simsiam"]),
        ("vi_simsiam_printed_rate", ["{}_vi_simsiam"]),
        ("as_printed", ["{}_vi_simsiam", "changes/vi_simsiam_as_printed"]),
    ],
)
def test_a_row_is_the_training_that_the_files_describe(name: str, row: str, files: list[str]) -> None:
    run = next(run for run in plan_of(row).runs(RATES) if run.key == (name, row, 2))
    expected = written(*(file.format(name) for file in files))
    rate = run.config.training.learning_rate
    expected = replace(expected, seed=2, training=replace(expected.training, learning_rate=rate))
    assert expected.differences(run.config) == []
    assert rate == (RATES[name, row] if row in {"simsiam", "vi_simsiam"} else PRINTED_RATE)  # type: ignore[index]


def test_every_row_seed_and_set_is_run_once_in_a_folder_of_its_own() -> None:
    plan = plan_of("pixels", "simsiam", "vi_simsiam", "constant_vmf")
    runs = list(plan.runs(RATES))
    assert len({run.config.out for run in runs}) == len({run.key for run in runs}) == len(runs) == 4 * 3 * 2
    assert plan.count == len(runs) + len(list(plan.tuning()))


def test_the_constant_von_mises_fisher_row_has_the_recipe_of_vi_simsiam_and_its_rate() -> None:
    vmf, vi = (next(iter(plan_of(key).runs(RATES))).config for key in ("constant_vmf", "vi_simsiam"))
    assert {line.split()[0] for line in vi.differences(vmf)} == {"method.name", "method.concentration"}
    assert vmf.method.concentration == vmf.method.dim - 1


def test_both_methods_choose_among_equally_many_rates_on_training_images_with_a_seed_of_their_own() -> None:
    runs = list(plan_of("simsiam", "vi_simsiam").tuning())
    by_method = Counter((run.key[0], run.config.method.name) for run in runs)
    assert set(by_method.values()) == {len(SCALES["full"].rates)}
    assert {run.config.seed for run in runs} == {TUNING_SEED}
    assert {run.config.data.held_out for run in runs} == {0.2}


def test_rows_whose_rate_could_not_be_chosen_are_left_out() -> None:
    plan = plan_of("simsiam", "vi_simsiam", "simsiam_printed_rate")
    keys = {run.key[1] for run in plan.runs({("imagenette", "simsiam"): 0.1})}
    assert keys == {"simsiam", "simsiam_printed_rate"}


def test_a_row_with_a_field_that_does_not_exist_is_refused() -> None:
    row = Row("new", "new", "simsiam", None, {"method.colour": "blue"})
    plan = replace(plan_of(), rows=(row,))
    with pytest.raises(ValueError, match=r"unknown entries: method\.colour"):
        list(plan.runs({}))


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [({0.1: 0.5, 0.3: 0.6, 1.0: 0.4}, 0.3), ({0.1: 0.5, 0.3: 0.5, 1.0: None}, 0.1), ({0.1: None}, None)],
)
def test_the_best_rate_is_chosen(accuracies: dict[float, float | None], expected: float | None) -> None:
    assert chosen_rate(accuracies, (0.1, 0.3, 1.0)) == expected


def test_changed_settings_are_named_and_new_rows_are_not_a_change() -> None:
    saved = {"base": {"training.epochs": 5}, "rates": [0.1], "rows": {"a": {"x": 1}, "b": {"x": 1}}}
    now = {"base": {"training.epochs": 6}, "rates": [0.1], "rows": {"b": {"x": 2}, "c": {"x": 1}}}
    assert differing(saved, {**saved, "rows": {"c": {}}}) == []
    assert differing(saved, now) == ["base.training.epochs was 5, now 6", "rows.b was {'x': 1}, now {'x': 2}"]


VALUES, OTHERS = [61.0, 63.5, 60.25, 64.0], [60.0, 63.0, 60.5, 61.0]


def test_the_interval_is_scipys() -> None:
    mean, low, high = mean_interval(VALUES)
    expected = stats.ttest_1samp(VALUES, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert mean == pytest.approx(62.1875, abs=1e-12)
    assert mean_interval([3.0]) == (3.0, None, None)
    with pytest.raises(ValueError, match="at least one number"):
        mean_interval([])


def test_the_interval_of_differences_is_that_of_a_paired_test() -> None:
    _, low, high = mean_interval(paired_differences(VALUES, OTHERS))
    expected = stats.ttest_rel(VALUES, OTHERS).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_differences_are_of_seeds_that_both_have() -> None:
    assert paired_differences([1.0, None, 3.0], [0.5, 1.0, None]) == [0.5]


def result(accuracy: float) -> dict[str, Any]:
    measures = {
        "linear": {"top1": accuracy, "top5": 0.9, "learning_rate": 1.6},
        "knn": {"accuracy": accuracy},
        "held_out": {"standard_deviation": 1.0, "effective_rank": 5.0, "concentration": {"50%": 1.0}},
    }
    return {"measures": measures}


def test_the_record_has_means_paired_differences_edges_and_failures() -> None:
    plan = plan_of("simsiam", "vi_simsiam", "simsiam_printed_rate", "as_printed", sets=("imagenette",))
    name = "imagenette"
    tuning: dict[tuple[str, str, float], dict[str, Any]] = {
        (name, method, rate): result(accuracy)
        for method, best in (("simsiam", 0.03), ("vi_simsiam", 0.1))
        for rate in (0.01, 0.03, 0.1)
        for accuracy in [0.5 if rate == best else 0.4]
    }
    done: dict[tuple[str, str, float], dict[str, Any]] = {
        (name, row, seed): result(0.6 + 0.01 * seed + more)
        for row, more in (("simsiam", 0.0), ("vi_simsiam", 0.02), ("as_printed", -0.1))
        for seed in plan.seeds
    }
    failures: dict[tuple[str, str, float], str] = {(name, "as_printed", 1): "NaN"}
    del done[name, "as_printed", 1]
    record = make_record("table1", plan, Outcomes(tuning, done, failures), "command")
    main = record.tables[0].rows
    top1, difference = record.tables[0].columns
    assert main["SimSiam"][top1].value == pytest.approx(61.0)
    assert main["VI-SimSiam"][difference].each == pytest.approx((2.0, 2.0, 2.0))
    assert main["VI-SimSiam"][difference].low == pytest.approx(2.0)
    assert main["VI-SimSiam literally as printed"][top1].text == "failed (1 of 3 seeds)"
    assert main["SimSiam, rate as printed"][top1].value is None
    assert record.configuration["failures"] == {"imagenette, as_printed, 1": "NaN"}
    assert record.configuration["chosen rates"] == {"imagenette, simsiam": 0.03, "imagenette, vi_simsiam": 0.1}
    choice = next(table for table in record.tables if "learning rates" in table.title)
    assert choice.rows["imagenette, simsiam"]["chosen"].text == "0.03"
    assert choice.rows["imagenette, vi_simsiam"]["chosen"].text == "0.1, at the edge"
    assert any("at the edge of the grid for vi_simsiam on imagenette" in note for note in record.notes)
    assert any("4 of 12 trainings are missing" in note for note in record.notes)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Thirty images of three classes of unequal size, numbered by their grey level; notes which parts are opened."""
    splits: list[str] = []

    def stand_in(name: str, root: str, split: str, **_: object) -> ImageSet:  # noqa: ARG001
        splits.append(split)
        pixels = torch.arange(30, dtype=torch.uint8)[:, None, None, None].expand(30, 4, 4, 3).numpy()
        labels = torch.tensor([0] * 16 + [1] * 10 + [2] * 4)
        return ImageSet(name, ArraySource(pixels), labels, ("a", "b", "c"))

    monkeypatch.setattr(pretraining_images, "open_images", stand_in)
    return splits


def numbers(images: ImageSet) -> list[int]:
    return [images.read(index).getpixel((0, 0))[0] for index in range(len(images))]  # type: ignore[index]


@pytest.mark.usefixtures("opened")
def test_a_part_of_the_training_images_has_its_classes_in_equal_number() -> None:
    assert open_part(DataConfig(images=12), "train").labels.bincount().tolist() == [4, 4, 4]
    assert open_part(DataConfig(images=20), "train").labels.bincount().tolist() == [8, 8, 4]
    assert len(open_part(DataConfig(images=99), "train")) == 30
    assert numbers(open_part(DataConfig(images=12), "train")) == numbers(open_part(DataConfig(images=12), "train"))
    assert len(open_part(DataConfig(images=12), "val")) == 30


def test_held_out_images_are_training_images_that_the_training_does_not_see(opened: list[str]) -> None:
    train, held_out = (open_part(DataConfig(images=20, held_out=0.2), part) for part in ("train", "val"))
    assert opened == ["train", "train"]
    assert not set(numbers(train)) & set(numbers(held_out))
    assert sorted(numbers(train) + numbers(held_out)) == numbers(open_part(DataConfig(images=20), "train"))
    assert held_out.labels.bincount().tolist() == [2, 1, 1]
