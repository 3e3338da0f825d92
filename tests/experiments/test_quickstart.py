"""The command that a newcomer runs first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from experiments import quickstart
from experiments.pretraining.export import load_pretrained
from experiments.records.record import Record
from models.vi_simsiam import VISimSiam
from ssl_as_inference.distributions import PowerSpherical

pytestmark = pytest.mark.slow

FIGURES = ("training_curves.png", "loss_surface.png", "concentration.png")
ROWS = ["raw pixels, 16 × 16", "untrained encoder", "SimSiam", "VI-SimSiam"]
KEYS = ("simsiam", "vi_simsiam")
OF_KAPPA = ["κ: AUROC of correctness", "κ: Spearman, noise", "κ: Spearman, occlusion"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One short run; its folder and what it printed."""
    out = tmp_path_factory.mktemp("quickstart") / "made" / "by the command"
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda *parts, **_: printed.append(" ".join(map(str, parts))))
        assert quickstart.main(["--epochs", "2", "--seed", "3", "--out", str(out)]) == 0
    return out, "\n".join(printed)


def record(out: Path) -> Record:
    return Record.load(out / "quickstart.json")


def test_the_table_shows_baselines_and_methods_with_the_measured_numbers(run: tuple[Path, str]) -> None:
    out, printed = run
    (table,) = record(out).tables
    assert list(table.rows) == ROWS
    assert table.aligned() in printed
    measures = record(out).details["measures"]
    assert list(measures) == ["pixels", "untrained", "simsiam", "vi_simsiam"]
    for cells, of in zip(table.rows.values(), measures.values(), strict=True):
        shown = [cells[name].value for name in ("kNN", "linear", "std of outputs", "effective rank")]
        held_out = of["held_out"]
        assert shown == [of["knn"]["accuracy"], of["linear"]["top1"], *list(held_out.values())[1:3]]
        assert held_out["images"] == 450


def test_accuracies_are_better_than_chance_and_outputs_have_not_collapsed(run: tuple[Path, str]) -> None:
    for name, cells in record(run[0]).tables[0].rows.items():
        knn, linear, spread, rank = (cell.value or 0 for cell in list(cells.values())[:4])
        assert 0.5 < knn <= 1, name
        assert 0.8 < linear <= 1, name
        assert spread > 0.3, name
        assert rank > 5, name


def test_only_the_method_that_predicts_a_concentration_is_judged_by_it(run: tuple[Path, str]) -> None:
    for name, cells in record(run[0]).tables[0].rows.items():
        judged = [cells[column].value is not None for column in OF_KAPPA]
        assert judged == [name == "VI-SimSiam"] * 3


def test_every_file_that_is_named_exists_and_nothing_else(run: tuple[Path, str]) -> None:
    out, printed = run
    named = {Path(line.strip()) for line in printed.splitlines() if re.match(r"  \S.*\.(png|md|json)$", line)}
    assert named == {path for path in out.iterdir() if path.is_file()}
    assert all((out / name).stat().st_size > 10_000 for name in FIGURES)
    assert re.findall(r"  (\S.*/seed_3)\n", printed) == [str(out / f"runs/digits/{key}/seed_3") for key in KEYS]


def test_the_record_says_how_it_was_made_and_how_it_went(run: tuple[Path, str]) -> None:
    content = record(run[0])
    assert content.command.startswith("python -m experiments.quickstart --epochs 2 --seed 3 --out ")
    assert content.versions["torch"] == torch.__version__
    history = content.details["history"]
    assert history["VI-SimSiam"]["loss"][-1][0] == 2  # the epoch
    assert -1 < history["SimSiam"]["cosine"][-1][1] < 1


def test_the_weights_are_an_encoder_for_the_other_commands(run: tuple[Path, str]) -> None:
    pair = load_pretrained(run[0] / "runs" / "digits" / "vi_simsiam" / "seed_3").pair
    assert isinstance(pair, VISimSiam)
    with torch.no_grad():
        expert = pair.eval().model.expert(torch.rand(2, 1, 16, 16))
    assert isinstance(expert, PowerSpherical)
    assert (expert.concentration > 0).all()


def test_a_folder_of_other_settings_is_refused_in_a_line(
    run: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert quickstart.main(["--epochs", "3", "--seed", "3", "--out", str(run[0])]) == 2
    said = capsys.readouterr().err
    assert "is of other settings: training.epochs 2, now 3" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], r"argument --epochs: expected a whole number of at least 1, got '0'"),
        (["--epochs", "many"], r"argument --epochs: expected a whole number of at least 1, got 'many'"),
        (["--seed", "-1"], r"argument --seed: expected a whole number .*, got '-1'"),
        (["--out", "README.md/below"], r"argument --out: expected a folder that can be written to"),
        (["--wrong"], r"unrecognized arguments: --wrong"),
    ],
)
def test_a_wrong_argument_gets_one_line_and_a_failing_status(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        quickstart.main(arguments)
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert re.search(message, lines[0])


def test_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        quickstart.main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert all(option in text for option in ("--seed", "--epochs", "--out", "SimSiam", "default"))
