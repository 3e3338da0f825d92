"""What makes κ trustworthy: the recipes are what they are called, the command goes on, and the record adds up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from experiments import recipes as command
from experiments import table1
from experiments.evaluation.uncertainty.measures import ALL_SEVERITIES, GAP, R_AUROC, Measure, measure
from experiments.evaluation.uncertainty.observations import FreshViews, Observations, chosen_images, look_at
from experiments.evaluation.uncertainty.rivals import KAPPA, TWO_VIEWS, Rivals
from experiments.evaluation.uncertainty.subject import Subject, fresh_generator, middles, random_view
from experiments.figures.recipes import Column, recipes_figure
from experiments.images.degradations import DEGRADATIONS
from experiments.pretraining.export import load_pretrained
from experiments.records.record import Cell, Record
from experiments.studies import looking
from experiments.studies.conducting import planned
from experiments.studies.looking import VIEWS, predicted_cosines, predictions, promised_too_much
from experiments.studies.options import ROWS, SCALES, StudyParser
from experiments.studies.plan import PLAIN, Plan, Scale, Training, rows, run_name
from experiments.studies.recipe_tables import AIMS, columns_of, main_table, reaches, recipes_record
from experiments.studies.tables import Outcome
from experiments.studies.training import decoded_images, trainings
from inference.fitting.checkpointing import CheckpointError
from ssl_as_inference.distributions import PowerSpherical

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
TINY = ["--scale", "tiny", "--epochs", "1", "--images", "30", "--jobs", "1", "--device", "cpu"]
RATES: dict[Any, float] = {"simsiam": 0.1, "vi_simsiam": 0.2}


def plan_of(*keys: str, out: Path = Path("runs"), scale: str = "tiny", seeds: int = 2, rates: Any = RATES) -> Plan:
    size = Scale.named(scale, 1 if scale == "tiny" else None)
    chosen = tuple(row for row in rows("recipes", size.base, rates) if row.key in keys)
    return Plan(size, chosen, tuple(size.sets[:1]), tuple(range(seeds)), out, {"engine.accelerator": "cpu"})


def config_of(key: str, scale: str = "small") -> Any:
    return next(iter(plan_of(key, scale=scale).runs({}))).config


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        ("softplus", {"method.concentration_map"}),
        ("per_image", {"objective.nats_per"}),
        ("beta", {"objective.weight"}),  # 1/2 is the default
        ("beta_one", {"objective.weight", "objective.beta"}),
        ("without_pull", {"objective.weight", "objective.nats_per", "training.learning_rate"}),
        ("stopped_head", {"method.concentration_gradient"}),
        ("slow_head", {"training.concentration_rate"}),
        ("fast_head", {"training.concentration_rate"}),
        ("decayed_head", {"training.concentration_decay"}),
        ("normalized", {"objective.normalized"}),
        ("defects", {"views.noise_probability", "views.occlusion_probability"}),
        ("fine_defects", {"views.blur_probability", "views.blur_sigma", "views.downscale_probability"}),
    ],
)
def test_a_recipe_changes_one_thing_of_vi_simsiam(key: str, fields: set[str]) -> None:
    assert {line.split()[0] for line in config_of(PLAIN).differences(config_of(key))} == fields


DEFECTS = {"views.noise_probability", "views.occlusion_probability"}


@pytest.mark.parametrize(
    ("key", "of", "fields"),
    [
        ("softplus", PLAIN, {"method.concentration_map"}),
        ("scaled_softplus", PLAIN, {"method.concentration_map"}),
        ("unclipped", PLAIN, {"training.gradient_clip"}),
        ("no_defects", PLAIN, DEFECTS),
        ("simsiam_no_defects", "simsiam", DEFECTS),
        ("frequent_defects", PLAIN, DEFECTS),
        ("frequent_defects_scaled_softplus", "frequent_defects", {"method.concentration_map"}),
    ],
)
def test_an_ablation_on_digits_changes_one_thing(key: str, of: str, fields: set[str]) -> None:
    one, other = config_of(of, "digits"), config_of(key, "digits")
    assert {line.split()[0] for line in one.differences(other)} == fields
    assert key in SCALES["digits"]["rows"]["recipes"]


@pytest.mark.parametrize(("scale", "count"), [("digits", 9), ("small", len(ROWS["recipes"]) - 6)])
def test_a_scale_has_its_own_rows_or_all_that_belong_to_none(scale: str, count: int, tmp_path: Path) -> None:
    parser = StudyParser("recipes", None, scale)
    for option in ("data", "rates"):
        parser.set_defaults(**{option: None})
    plan, _ = planned(parser.parse_args(["--out", str(tmp_path), "--device", "cpu"]), "recipes", tuned=False)
    assert len(plan.rows) == count
    assert {row.scale for row in plan.rows} <= {None, scale}


def test_all_defects_are_those_of_both_recipes_with_the_same_probability() -> None:
    views, noise, fine = (config_of(key).views for key in ("all_defects", "defects", "fine_defects"))
    four = ("noise_probability", "occlusion_probability", "blur_probability", "downscale_probability")
    assert [getattr(views, name) for name in four] == [0.25] * 4
    assert replace(views, blur_probability=0.0, downscale_probability=0.0, blur_sigma=noise.blur_sigma) == noise
    assert replace(views, noise_probability=0.0, occlusion_probability=0.0) == fine
    assert views.blur_sigma == (0.5, 2.5)
    # The degradations that judge go beyond.
    strongest = {series.name: series.severities[-1] for series in DEGRADATIONS}
    assert strongest["blur"] * views.size > views.blur_sigma[1]
    assert strongest["down-scaling"] > views.downscale_factor[1]


def test_a_recipe_of_two_things_has_both() -> None:
    both, one, other = (config_of(key) for key in ("defects_without_pull", "defects", "without_pull"))
    assert both.views == one.views
    assert (both.objective, both.training) == (other.objective, other.training)
    assert replace(both, views=other.views).differences(other) == []


def test_recipes_that_table_1_has_are_its_rows_at_the_given_rates() -> None:
    size = Scale.named("small")
    known = {row.key: row for row in rows("table1", size.base)}
    shared = [key for key in ROWS["recipes"] if key in known]
    assert len(shared) == 8
    for key in shared:
        theirs = Plan(size, (known[key],), ("cifar10",), (0,), Path("runs"), {})
        expected = next(iter(theirs.runs({("cifar10", method): rate for method, rate in RATES.items()})))
        ours = next(iter(plan_of(key, scale="small").runs({})))
        assert expected.config.differences(ours.config) == []
        assert expected.config.out == ours.config.out
    assert not list(plan_of(*ROWS["recipes"]).tuning())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, in_this_process: None) -> Path:  # noqa: ARG001
    """A tiny study; SimSiam's first seed was there before, from table 1."""
    out: Path = tmp_path_factory.mktemp("study")
    table = ["--scale", "tiny", "--epochs", "1", "--rates", "0.1", "--seeds", "1", "--jobs", "1", "--device", "cpu"]
    assert table1.main([*table, "--rows", "simsiam", "--out", str(out)]) == 0
    trained = out / "runs" / "digits" / "simsiam" / "seed_0" / "encoder.safetensors"
    written = trained.stat().st_mtime_ns
    assert command.main([*TINY, "--seeds", "2", "--rows", "simsiam", "vi_simsiam", "--out", str(out)]) == 0
    assert trained.stat().st_mtime_ns == written
    return out


def runs_of(out: Path) -> dict[tuple[str, int], Training]:
    plan = plan_of("simsiam", "vi_simsiam", out=out, rates={"simsiam": 0.1, "vi_simsiam": 0.1})
    return {(run.row.key, run.config.seed): run for run in plan.runs({})}


def test_the_record_says_what_was_found(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = Record.load(finished / "recipes_tiny.json")
    main = record.tables[0]
    assert list(main.rows) == ["SimSiam", "VI-SimSiam"]
    top1 = [
        json.loads((finished / "runs" / "digits" / key / f"seed_{seed}" / "result.json").read_text("utf-8"))
        for key in ("simsiam", "vi_simsiam")
        for seed in range(2)
    ]
    accuracies = [result["measures"]["linear"]["top1"] for result in top1]
    assert main.rows["SimSiam"]["top-1"].each == tuple(accuracies[:2])
    assert main.rows["VI-SimSiam"]["difference to SimSiam"].each == pytest.approx(
        [accuracies[2] - accuracies[0], accuracies[3] - accuracies[1]]
    )
    assert "difference to SimSiam" not in main.rows["SimSiam"]
    assert main.rows["SimSiam"][AIMS].text.endswith("of 9")  # nothing to calibrate
    assert main.rows["VI-SimSiam"][AIMS].text.endswith("of 10")
    assert "Two seeds: the intervals say little." in record.notes
    assert (finished / "recipes_tiny.png").exists()
    tables = {table.title: table for table in record.tables}
    assert "The encoders" in tables
    u1 = tables["U1 to U8"].rows["VI-SimSiam"][ALL_SEVERITIES]
    assert main.rows["VI-SimSiam"]["U1 mean"] == u1 == tables["What competes with κ"].rows[KAPPA][ALL_SEVERITIES]

    # The same command finds everything there, and the tables do not change.
    assert command.main([*TINY, "--seeds", "2", "--rows", "simsiam", "vi_simsiam", "--out", str(finished)]) == 0
    said = capsys.readouterr().out
    assert "runs to do" not in said
    assert Record.load(finished / "recipes_tiny.json").tables == record.tables


QUESTIONS = {"images": 30, "foreign": []}


def observations_of(run: Training) -> Observations:
    subject = Subject.of(load_pretrained(run.config.out).pair, run.config, CPU)
    train, test = (decoded_images(run.config, part, CPU) for part in ("train", "val"))
    return look_at(Rivals.fit(subject, train), test, {}, images=30, progress=False)


def test_what_is_kept_is_what_another_look_finds(finished: Path) -> None:
    for key, name in (("simsiam", TWO_VIEWS), ("vi_simsiam", KAPPA)):
        run = runs_of(finished)[key, 1]
        result = looking.finished(run, questions=QUESTIONS)
        assert result is not None
        again = measure(observations_of(run), resamples=1)
        assert list(result["tests"]) == list(again)
        for test, of in again.items():
            if name in of:
                assert result["tests"][test][name] == pytest.approx(of[name].value, nan_ok=True)
        assert result["aims"][GAP] == [0.03, True, None]
        assert "mean: fall of the cosine" in result["predicting"]
        assert ("mean: ρ(κ) − cosine" in result["predicting"]) == (name == KAPPA)


def test_a_degraded_image_is_held_against_views_that_are_not(finished: Path) -> None:
    run = runs_of(finished)["vi_simsiam", 0]
    subject = Subject.of(load_pretrained(run.config.out).pair, run.config, CPU)
    test = decoded_images(run.config, "val", CPU)
    chosen = chosen_images(len(test), 12, 0)
    cosines = predicted_cosines(subject, test, chosen)
    pixels = middles(test, subject.recipe, chosen)
    views = [
        random_view(test.canvas[chosen], test.sizes[chosen], subject, fresh_generator(0, 20 + number)).outputs
        for number in range(VIEWS)
    ]
    for series in DEGRADATIONS:
        for level in (0, len(series) - 1):
            expert = subject.look(series(pixels, level)).mean_direction.numpy()
            expected = np.mean([(expert * view.numpy()).sum(1) for view in views], axis=0)
            assert cosines[series.name][level].numpy() == pytest.approx(expected, abs=1e-5)
    first = [cosines[series.name][0] for series in DEGRADATIONS]
    assert all(torch.allclose(one, first[0], atol=1e-4) for one in first)


def test_what_is_predicted_is_compared_by_scipys_rank_correlations(finished: Path) -> None:
    seen = observations_of(runs_of(finished)["vi_simsiam", 0])
    generator = torch.Generator().manual_seed(0)
    u, cosines = torch.rand(6, 15, generator=generator), torch.rand(6, 15, generator=generator)
    found = predictions(replace(seen, degraded={"blur": {KAPPA: -u}}), {"blur": cosines})
    per_image = [stats.spearmanr(np.arange(6), -cosines[:, image].numpy()).statistic for image in range(15)]
    for name in ("blur", "mean"):
        assert found[f"{name}: fall of the cosine"] == pytest.approx(np.mean(per_image), abs=1e-10)
        agreement = stats.spearmanr(u.flatten(), cosines.flatten()).statistic
        assert found[f"{name}: κ with the cosine"] == pytest.approx(agreement, abs=1e-10)
    promised = promised_too_much(seen.fresh, u, cosines)
    assert found["blur: ρ(κ) − cosine"] == pytest.approx(float(promised[-1]))
    assert found["untouched: ρ(κ) − cosine"] == pytest.approx(float(promised[0]))


def test_a_calibrated_concentration_promises_nothing_too_much() -> None:
    dim, nothing = 16, torch.zeros(1)
    fresh = FreshViews(dim, PowerSpherical, nothing, nothing, nothing)
    cosines = torch.tensor([[0.9, 0.5], [0.2, 0.4]], dtype=torch.float64)
    calibrated = (dim - 1) * cosines / (1 - cosines)
    assert promised_too_much(fresh, calibrated, cosines).tolist() == pytest.approx([0, 0], abs=1e-12)
    assert promised_too_much(fresh, calibrated, cosines - 0.1).tolist() == pytest.approx([0.1, 0.1], abs=1e-12)


VALUES: Mapping[tuple[str, int], dict[str, dict[str, float]]] = {
    ("simsiam", 0): {ALL_SEVERITIES: {TWO_VIEWS: 0.0}, R_AUROC: {TWO_VIEWS: 0.5}},
    ("simsiam", 1): {ALL_SEVERITIES: {TWO_VIEWS: 0.1}, R_AUROC: {TWO_VIEWS: 0.6}},
    ("vi_simsiam", 0): {ALL_SEVERITIES: {KAPPA: 0.1}, R_AUROC: {KAPPA: 0.62}, GAP: {KAPPA: 0.02}},
    ("vi_simsiam", 1): {ALL_SEVERITIES: {KAPPA: 0.3}, R_AUROC: {KAPPA: 0.61}, GAP: {KAPPA: 0.03}},
    ("defects", 0): {ALL_SEVERITIES: {KAPPA: 0.7}, R_AUROC: {KAPPA: 0.62}, GAP: {KAPPA: 0.2}},
    ("defects", 1): {ALL_SEVERITIES: {KAPPA: 0.9}, R_AUROC: {KAPPA: 0.61}, GAP: {KAPPA: 0.1}},
}
MEASURES = (Measure(ALL_SEVERITIES, 0.6), Measure(R_AUROC, 0.6, interval_beyond=0.5), Measure(GAP, 0.03, at_most=True))


def outcome_of(values: Mapping[tuple[str, int], Any]) -> Outcome:
    plan = plan_of("simsiam", "vi_simsiam", "defects")
    study = trainings(plan)
    held_out = {"standard_deviation": 1.0, "effective_rank": 5.0, "concentration": {"50%": 1.0}}
    for (key, seed), top1 in zip(VALUES, (0.5, 0.6, 0.4, 0.55, 0.45, 0.5), strict=True):
        measures = {"knn": {"accuracy": 0.5}, "linear": {"top1": top1}, "held_out": held_out}
        if (key, seed) in values:
            tests = {name: dict(of) for name, of in values[key, seed].items()}
            study.results[run_name("digits", key, seed)] = {
                "measures": measures,
                "tests": tests,
                "predicting": {},
                "aims": {one.name: (one.aim, one.at_most, one.interval_beyond) for one in MEASURES},
                "config": {"engine": {"precision": "32"}},
            }
    return Outcome(plan, study, "digits")


def test_differences_are_paired_by_seed_and_aims_counted_where_the_mean_reaches_them() -> None:
    rows = main_table(outcome_of(VALUES), MEASURES).rows
    defective = rows["noise and covers among views"]
    assert defective["U1 mean, difference to VI-SimSiam"].each == pytest.approx((0.6, 0.6))
    assert defective["difference to SimSiam"].each == pytest.approx((-0.05, -0.1))
    interval = stats.ttest_1samp([0.7, 0.9], 0).confidence_interval(0.95)
    assert (defective["U1 mean"].low, defective["U1 mean"].high) == pytest.approx((interval.low, interval.high))
    assert rows["SimSiam"]["U1 mean"].value == pytest.approx(0.05)
    assert rows["SimSiam"][AIMS].text == "0 of 2"
    assert rows["VI-SimSiam"][AIMS].text == "2 of 3"
    assert defective[AIMS].text == "2 of 3"


def test_an_interval_that_has_to_lie_beyond_is_the_one_over_seeds() -> None:
    row = Measure(R_AUROC, 0.6, interval_beyond=0.5)
    assert reaches(row, Cell(0.62, 0.55, 0.7))
    assert not reaches(row, Cell(0.62, 0.45, 0.8))
    assert not reaches(row, Cell(0.58, 0.55, 0.6))
    assert not reaches(row, Cell())


def test_the_record_says_what_is_missing_and_shows_it_as_a_dash() -> None:
    record, _ = recipes_record("recipes_test", outcome_of(VALUES), QUESTIONS, "it", "A note.")
    assert "A note." in record.notes
    part = {key: value for key, value in VALUES.items() if key[0] != "defects"}
    record, _ = recipes_record("recipes_test", outcome_of(part), QUESTIONS, "it")
    assert "2 of 6 runs are missing." in record.notes
    assert record.tables[0].rows["noise and covers among views"]["U3"].show(3) == "–"


BOLD = {"0.80", "0.61", "0.03"}  # of 0.8, 0.615 and 0.025


def texts(figure: Any) -> list[Any]:
    return [text for axes in figure.axes for text in axes.texts]


def test_the_figure_has_every_mean_and_frames_what_reaches_its_aim() -> None:
    columns = columns_of(outcome_of(VALUES), MEASURES)
    differences = {label: Cell(-1.0, -3.0, 1.0, (-2.0, 0.0)) for label in next(iter(columns.values()))}
    figure = recipes_figure(differences, columns, "SimSiam")
    shown = {text.get_text(): text.get_weight() for text in texts(figure)}
    assert {"0.05", "0.20", "0.80", "0.55", "0.03", "0.15", "–"} <= set(shown)
    assert {text for text, weight in shown.items() if weight == "bold"} == BOLD
    frames = [patch for patch in figure.axes[1].patches if not patch.get_fill()]
    assert len(frames) == 4  # U1 of the defects, U3 of both, U6 of VI-SimSiam
    assert sum(frame.get_linewidth() > 1 for frame in frames) == 0


@pytest.mark.parametrize(
    ("column", "value", "score"),
    [
        (Column("U3", "", 0.5, 0.6), 0.45, -0.5),
        (Column("U3", "", 0.5, 0.6), 0.9, 1.0),
        (Column("U6", "", 0.1, 0.03), 0.03, 1.0),
        (Column("U6", "", 0.1, 0.03), 0.135, -0.5),
        (Column("promise", "", 0.3, 0.0, signed=False), -0.15, 0.5),
        (Column("promise", "", 0.3, 0.0, signed=False), 0.15, 0.5),
    ],
)
def test_a_colour_says_how_far_a_value_lies_towards_the_aim(column: Column, value: float, score: float) -> None:
    assert column.score(value) == pytest.approx(score)


def test_the_figure_frames_what_the_table_counts_as_reached_and_a_promise_never() -> None:
    wide, narrow = Cell(0.62, 0.45, 0.8), Cell(0.62, 0.55, 0.7)
    *_, column, promise = columns_of(outcome_of(VALUES), [Measure(R_AUROC, 0.6, interval_beyond=0.5)])
    assert [column.reached(cell) for cell in (wide, narrow)] == [False, True]
    assert not promise.reached(Cell(0.0))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--scale", "full"], "--scale full needs --rates"),
        (["--rows", "none"], "invalid choice: 'none'"),
        (["--rates", "0.1"], "expected 2 arguments"),
        (["--scale", "tiny", "--foreign", "{}/nowhere", "--rows", "simsiam"], "nowhere"),
        (["--scale", "tiny", "--foreign", "a/woof", "b/woof"], "--foreign must name sets whose folders have different"),
        (["--scale", "tiny", "--table-only"], "holds no finished run to make a table of"),
        (["--scale", "small", "--root", "{}/nowhere"], "cifar10: expected the folder"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    options: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [option.format(tmp_path) for option in [*options, "--out", str(tmp_path), "--device", "cpu"]]
    with pytest.raises(SystemExit, match="2"):
        raise SystemExit(command.main(given))
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1


def test_a_damaged_file_or_another_setting_is_named(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--seeds", "2", "--rows", "simsiam", "--table-only", "--out", str(finished)]
    assert command.main([*TINY, *given, "--epochs", "2"]) == 2
    assert "of other settings: training.epochs 1, now 2" in capsys.readouterr().err
    path = finished / "runs" / "digits" / "simsiam" / "seed_0" / "result.json"
    kept = path.read_bytes()
    try:
        path.write_bytes(kept[:1000])
        assert command.main([*TINY, *given]) == 2
        assert "cannot be read" in capsys.readouterr().err
    finally:
        path.write_bytes(kept)


def test_other_questions_are_asked_anew(finished: Path) -> None:
    run = runs_of(finished)["simsiam", 0]
    assert looking.finished(run, questions=QUESTIONS) is not None
    other = {**QUESTIONS, "images": 31}
    assert looking.finished(run, questions=other) is None
    message = r"was asked with .*'images': 30.*, not .*'images': 31.*the same --images"
    with pytest.raises(CheckpointError, match=message):
        looking.finished(run, questions=other, ask_again=False)


@pytest.mark.usefixtures("in_this_process")
def test_a_failed_training_is_reported_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--seeds", "1", "--rows", "simsiam", "vi_simsiam", "--rates", "0.1", "1e30", "--out", str(tmp_path)]
    assert command.main([*TINY, *options]) == 1
    assert "runs/digits/vi_simsiam/seed_0 failed: step 1: the loss is" in capsys.readouterr().err
    main = Record.load(tmp_path / "recipes_tiny.json").tables[0]
    assert main.rows["VI-SimSiam"]["top-1"].text == "failed (1 of 1 seeds)"
    assert main.rows["SimSiam"]["top-1"].value is not None
