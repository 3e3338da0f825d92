"""Table 1: what is to be run is what the configurations say, and what comes out is averaged as statistics teaches."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from experiments import pretrain
from experiments.images.errors import ImageSetError
from experiments.images.image_sets import ArraySource, ImageSet
from experiments.pretraining import images as pretraining_images
from experiments.pretraining.configuration import DataConfig, PretrainConfig
from experiments.pretraining.images import open_part
from experiments.studies.engine import Result, Study
from experiments.studies.options import ROWS, SCALES
from experiments.studies.plan import TUNING_SEED, Plan, Row, Scale, best_rate, rows, run_name, set_label, tuning_name
from experiments.studies.tables import difference, interval, table1
from experiments.studies.training import trainings
from models.vi_simsiam import MAX_MEAN_RESULTANT_LENGTH

CONFIGS = Path(pretrain.__file__).parent / "configs"
SETS = ("imagenette", "imagewoof")
RATES = {
    ("imagenette", "simsiam"): 0.1,
    ("imagenette", "vi_simsiam"): 0.03,
    ("imagewoof", "simsiam"): 0.01,
    ("imagewoof", "vi_simsiam"): 0.1,
}


def plan_of(*keys: str, scale: str = "full", sets: tuple[str, ...] = SETS, out: Path = Path("runs")) -> Plan:
    size = Scale.named(scale)
    chosen = tuple(row for row in rows("table1", size.base) if row.key in keys)
    return Plan(size, chosen, sets, (0, 1, 2), out, {})


def written(*files: str) -> PretrainConfig:
    """What `experiments.pretrain` makes of files in experiments/configs."""
    arguments = [part for file in files for part in ("--config", str(CONFIGS / f"{file}.yaml"))]
    return pretrain.parse(arguments)[0]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    ("row", "files"),
    [
        ("simsiam", ["simsiam", "changes/tuned_simsiam"]),
        ("vi_simsiam", ["vi_simsiam", "changes/tuned_vi_simsiam"]),
        ("simsiam_printed_rate", ["simsiam"]),
        ("vi_simsiam_printed_rate", ["vi_simsiam"]),
        ("as_printed", ["vi_simsiam", "changes/vi_simsiam_as_printed"]),
    ],
)
def test_a_row_is_the_training_that_the_files_describe(name: str, row: str, files: list[str]) -> None:
    run = next(run for run in plan_of(row).runs(RATES) if run.name == run_name(name, row, 2))
    expected = written(*files)
    rate = run.config.training.learning_rate
    expected = replace(expected, seed=2, training=replace(expected.training, learning_rate=rate))
    assert expected.differences(run.config) == []
    assert rate == (RATES[name, row] if row in {"simsiam", "vi_simsiam"} else 1e-3)


def test_every_row_seed_and_set_is_run_once_in_a_folder_of_its_own() -> None:
    plan = plan_of("pixels", "simsiam", "vi_simsiam", "constant_vmf")
    runs = list(plan.runs(RATES))
    assert len({run.config.out for run in runs}) == len({run.name for run in runs}) == len(runs) == 4 * 3 * 2
    assert {run.name for run in plan.everything()} == {run.name for run in [*plan.tuning(), *runs]}


def test_the_constant_von_mises_fisher_row_has_the_recipe_of_vi_simsiam_and_its_rate() -> None:
    vmf, vi = (next(iter(plan_of(key).runs(RATES))).config for key in ("constant_vmf", "vi_simsiam"))
    assert {line.split()[0] for line in vi.differences(vmf)} == {"method.name", "method.concentration"}
    assert vmf.method.concentration == vmf.method.dim - 1


@pytest.mark.parametrize("row", ["simsiam", "vi_simsiam", "stopped_head", "constant_ps"])
def test_a_smaller_rate_is_all_that_a_slower_row_changes(row: str) -> None:
    set_name, method = "imagenette-160", "simsiam" if row == "simsiam" else "vi_simsiam"
    plan = plan_of(row, f"{row}_slower", scale="two_cores", sets=(set_name,))
    runs = {run.row.key: run for run in plan.runs({(set_name, method): 0.1}) if run.config.seed == 0}
    tuned, slower = runs[row], runs[f"{row}_slower"]
    assert tuned.config.differences(slower.config) == ["training.learning_rate 0.1, now 0.03"]


def test_both_methods_choose_among_equally_many_rates_on_training_images_with_a_seed_of_their_own() -> None:
    runs = list(plan_of("simsiam", "vi_simsiam").tuning())
    by_method = Counter((run.config.data.name, run.config.method.name) for run in runs)
    assert set(by_method.values()) == {len(SCALES["full"]["rates"])}
    assert {run.config.seed for run in runs} == {TUNING_SEED}
    assert {run.config.data.held_out for run in runs} == {0.2}


def test_rows_whose_rate_could_not_be_chosen_are_left_out() -> None:
    plan = plan_of("simsiam", "vi_simsiam", "simsiam_printed_rate")
    keys = {run.row.key for run in plan.runs({("imagenette", "simsiam"): 0.1})}
    assert keys == {"simsiam", "simsiam_printed_rate"}


def test_rates_of_one_set_serve_another_where_that_is_asked() -> None:
    plan = replace(plan_of("simsiam"), sets=("imagewoof",), tune_on="imagenette")
    assert {run.config.data.name for run in plan.tuning()} == {"imagenette"}
    tried = {tuning_name("imagenette", "simsiam", rate): result(rate) for rate in (0.01, 0.1)}
    assert plan.rates(tried) == {("imagewoof", "simsiam"): 0.1}
    other = {tuning_name("imagewoof", "simsiam", rate): result(1 - rate) for rate in (0.01, 0.1)}
    assert plan.rates({**tried, **other}) == {("imagewoof", "simsiam"): 0.1}
    assert replace(plan, tune_on=None).rates({**tried, **other}) == {("imagewoof", "simsiam"): 0.01}


def test_a_row_with_a_field_that_does_not_exist_is_refused() -> None:
    row = Row("new", "new", "simsiam", None, {"method.colour": "blue"})
    plan = replace(plan_of(), rows=(row,))
    with pytest.raises(ValueError, match=r"unknown entries: method\.colour"):
        list(plan.runs({}))


def test_folders_that_are_named_by_dots_have_their_own_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dogs" / "train").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "dogs" / "train")
    assert [set_label(name) for name in (".", "..", "../../dogs", "imagewoof-160")] == [
        "train", "dogs", "dogs", "imagewoof-160"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("accuracies", "expected"), [({0.1: 0.5, 0.3: 0.6, 1.0: 0.4}, 0.3), ({0.1: 0.5, 0.3: 0.5}, 0.1), ({1.0: 0.0}, 1.0)]
)
def test_the_best_rate_is_chosen(accuracies: dict[float, float], expected: float) -> None:
    assert best_rate(accuracies) == expected


def test_the_legend_knows_the_largest_cosine_that_a_concentration_expects() -> None:
    assert f"a cosine of at most {MAX_MEAN_RESULTANT_LENGTH}." in ROWS["legends"]["table1"]


VALUES, OTHERS = [61.0, 63.5, 60.25, 64.0], [60.0, 63.0, 60.5, 61.0]


def test_the_interval_is_scipys() -> None:
    cell = interval([*VALUES, None])
    expected = stats.ttest_1samp(VALUES, 0).confidence_interval(0.95)
    assert (cell.low, cell.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert cell.value == pytest.approx(62.1875, abs=1e-12)
    assert cell.each == (*VALUES, None)
    assert (interval([3.0]).value, interval([3.0]).low) == (3.0, None)
    assert interval([None]).value is None
    assert interval([math.nan]).value is None


def test_the_interval_of_differences_is_that_of_a_paired_test() -> None:
    cell = difference(VALUES, OTHERS)
    expected = stats.ttest_rel(VALUES, OTHERS).confidence_interval(0.95)
    assert (cell.low, cell.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_differences_are_of_seeds_that_both_have() -> None:
    assert difference([1.0, None, 3.0], [0.5, 1.0, None]).each == (0.5, None, None)


def result(accuracy: float, precision: str = "32") -> Result:
    measures = {
        "linear": {"top1": accuracy, "top5": 0.9, "learning_rate": 1.6},
        "knn": {"accuracy": accuracy},
        "held_out": {"images": 1000, "standard_deviation": 1.0, "effective_rank": 5.0, "concentration": {"50%": 1.0}},
    }
    return {"measures": measures, "config": {"engine": {"precision": precision}}}


def study_of(plan: Plan, results: dict[str, Result], failures: dict[str, str]) -> Study:
    study = trainings(plan)
    study.results, study.failures = results, failures
    return study


def test_the_record_has_means_paired_differences_edges_and_failures() -> None:
    name = "imagenette"
    plan = plan_of("simsiam", "vi_simsiam", "simsiam_printed_rate", "as_printed", sets=(name,))
    results = {
        tuning_name(name, method, rate): result(0.5 if rate == best else 0.4)
        for method, best in (("simsiam", 0.03), ("vi_simsiam", 0.1))
        for rate in (0.01, 0.03, 0.1)
    }
    for row, more in (("simsiam", 0.0), ("vi_simsiam", 0.02), ("as_printed", -0.1)):
        for seed in plan.seeds:
            results[run_name(name, row, seed)] = result(0.6 + 0.01 * seed + more, "bf16-mixed")
    del results[run_name(name, "as_printed", 1)]
    failures = {run_name(name, "as_printed", 1): "NaN"}
    record, _ = table1("table1", plan, study_of(plan, results, failures), "command")
    main = record.tables[0].rows
    top1, gain = record.tables[0].columns
    assert main["SimSiam"][top1].value == pytest.approx(61.0)
    assert main["VI-SimSiam"][gain].each == pytest.approx((2.0, 2.0, 2.0))
    assert gain not in main["SimSiam"]
    assert main["VI-SimSiam literally as printed"][top1].text == "failed (1 of 3 seeds)"
    assert main["SimSiam, rate as printed"][top1].value is None
    assert record.tables[1].rows["VI-SimSiam"]["kNN, difference to SimSiam"].value == pytest.approx(2.0)
    assert record.configuration["failures"] == {"runs/imagenette/as_printed/seed_1": "NaN"}
    assert record.configuration["chosen rates"] == {"imagenette, simsiam": 0.03, "imagenette, vi_simsiam": 0.1}
    choice = next(table for table in record.tables if "learning rates" in table.title)
    assert choice.rows["imagenette, simsiam"]["chosen"].text == "0.03"
    assert choice.rows["imagenette, vi_simsiam"]["chosen"].text == "0.1, at the edge"
    assert "The chosen learning rate is at the edge of the grid for vi_simsiam on imagenette." in record.notes
    assert "4 of 18 runs are missing." in record.notes
    assert "Precision of the trainings: 32, bf16-mixed." in record.notes


def test_a_row_of_a_rate_is_compared_with_the_other_method_at_that_rate() -> None:
    accuracies = {"simsiam": 0.5, "vi_simsiam": 0.53, "simsiam_slower": 0.6, "vi_simsiam_slower": 0.61}
    plan = plan_of(*accuracies, scale="two_cores", sets=("imagenette-160",))
    results = {
        tuning_name("imagenette-160", method, 0.1): result(0.5, "bf16-mixed") for method in ("simsiam", "vi_simsiam")
    }
    for row, accuracy in accuracies.items():
        results |= {run_name("imagenette-160", row, seed): result(accuracy + 0.01 * seed) for seed in plan.seeds}
    main, more = table1("table1", plan, study_of(plan, results, {}), "command")[0].tables[:2]
    for table, column in ((main, main.columns[1]), (more, "kNN, difference to SimSiam")):
        found = {label: cells[column].value for label, cells in table.rows.items() if column in cells}
        assert found == pytest.approx({"VI-SimSiam": 3, "SimSiam, rate 0.03": 10, "VI-SimSiam, rate 0.03": 1})


def test_one_seed_has_the_interval_of_its_images() -> None:
    plan = replace(plan_of("simsiam", "vi_simsiam", sets=("imagenette",)), seeds=(0,))
    results = {tuning_name("imagenette", method, 0.1): result(0.5) for method in ("simsiam", "vi_simsiam")}
    results[run_name("imagenette", "simsiam", 0)] = result(0.62)
    record, _ = table1("table1", plan, study_of(plan, results, {}), "command")
    main, top1 = record.tables[0].rows, record.tables[0].columns[0]
    # The roots p of (0.62 − p)² = 1.96² p (1 − p)/1000: Wilson's interval by its definition.
    ends = np.roots([1 + 1.959964**2 / 1000, -2 * 0.62 - 1.959964**2 / 1000, 0.62**2])
    assert (main["SimSiam"][top1].low, main["SimSiam"][top1].high) == pytest.approx(sorted(100 * ends))
    assert main["VI-SimSiam"][top1].value is None
    assert "One seed: no interval says anything about other seeds." in record.notes


@pytest.mark.parametrize(("seeds", "bars"), [(2, 0), (3, 2)])
def test_the_figure_has_bars_for_three_seeds_and_shows_two_as_they_are(seeds: int, bars: int) -> None:
    plan = replace(plan_of("simsiam", "vi_simsiam", sets=("imagenette",)), seeds=tuple(range(seeds)))
    results = {tuning_name("imagenette", method, 0.1): result(0.5) for method in ("simsiam", "vi_simsiam")}
    for row in ("simsiam", "vi_simsiam"):
        results |= {run_name("imagenette", row, seed): result(0.6 + 0.01 * seed) for seed in plan.seeds}
    _, figure = table1("table1", plan, study_of(plan, results, {}), "command")
    lines: list[Any] = [*figure.axes[0].lines]
    assert sum(line.get_marker() == "None" and len(set(line.get_ydata())) == 1 for line in lines) == bars
    assert [len(line.get_xdata()) for line in lines if line.get_marker() == "o"] == [seeds, seeds]


def test_a_method_of_which_every_rate_failed_is_said_to_have() -> None:
    plan = plan_of("simsiam", sets=("imagenette",))
    failures = {tuning_name("imagenette", "simsiam", rate): "NaN" for rate in plan.scale.rates}
    results = {run_name("imagenette", "vi_simsiam", 0): result(0.5)}
    record, _ = table1("table1", plan, study_of(plan, results, failures), "command")
    assert record.tables[0].rows["SimSiam"][record.tables[0].columns[0]].text == "failed"


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


@pytest.mark.usefixtures("opened")
def test_a_fraction_that_leaves_nothing_to_train_on_is_named() -> None:
    with pytest.raises(ImageSetError, match=r"data\.held_out 0\.995 cannot divide 30 images: "):
        open_part(DataConfig(held_out=0.995), "train")
