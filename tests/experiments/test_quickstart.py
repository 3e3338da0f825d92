"""The command that a newcomer runs first."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity

from experiments import quickstart
from experiments.studies.digits import RECIPES, Measures, _loss_as_cosine, format_table
from inference.fitting.kl_objective import KLObjective
from models.vi_simsiam import VISimSiam
from ssl_as_inference.distributions import PowerSpherical

FIGURES = ("training_curves.png", "loss_surface.png", "concentration.png")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One short run; its folder and what it printed."""
    out = tmp_path_factory.mktemp("quickstart") / "made" / "by the command"
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda *parts, **_: printed.append(" ".join(map(str, parts))))
        assert quickstart.main(["--epochs", "2", "--seed", "3", "--out", str(out)]) == 0
    return out, "\n".join(printed)


def record(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return content


def test_the_table_shows_baselines_and_methods_with_the_measured_numbers(run: tuple[Path, str]) -> None:
    out, printed = run
    measures = record(out)["measures"]
    assert list(measures) == ["raw pixels", "untrained encoder", "SimSiam", "VI-SimSiam"]
    for name, row in measures.items():
        line = next(line for line in printed.splitlines() if line.startswith(f"| {name} "))
        cells = [cell.strip() for cell in line.strip("|").split("|")][1:]
        assert cells == ["–" if math.isnan(value) else f"{value:.3f}".replace("-", "−") for value in row.values()]


def test_accuracies_are_better_than_chance_and_outputs_have_not_collapsed(run: tuple[Path, str]) -> None:
    for name, row in record(run[0])["measures"].items():
        assert 0.5 < row["knn"] <= 1, name
        assert 0.8 < row["linear"] <= 1, name
        assert row["standard_deviation"] > 0.3, name
        assert row["effective_rank"] > 5, name


def test_only_the_method_that_predicts_a_concentration_is_judged_by_it(run: tuple[Path, str]) -> None:
    for name, row in record(run[0])["measures"].items():
        judged = [not math.isnan(row[key]) for key in ("correctness_auroc", "spearman_noise", "spearman_occlusion")]
        assert judged == [name == "VI-SimSiam"] * 3


def test_every_file_that_is_named_exists_and_nothing_else(run: tuple[Path, str]) -> None:
    out, printed = run
    named = {Path(line.strip()) for line in printed.splitlines() if re.match(r"  \S.*\.(png|md|json|pt)$", line)}
    assert named == set(out.iterdir())
    assert all((out / name).stat().st_size > 10_000 for name in FIGURES)


def test_the_record_says_how_it_was_made(run: tuple[Path, str]) -> None:
    content = record(run[0])
    assert content["command"] == "python -m experiments.quickstart --seed 3 --epochs 2"
    assert content["versions"]["torch"] == torch.__version__
    assert [epoch for epoch, _ in content["history"]["VI-SimSiam"]["loss"]] == [1, 2]


def test_the_loss_of_simsiam_is_shown_as_its_cosine(run: tuple[Path, str]) -> None:
    history = record(run[0])["history"]["SimSiam"]
    assert "loss" not in history
    assert [epoch for epoch, _ in history["cosine"]] == [1, 2]
    torch.manual_seed(0)
    pair = RECIPES["SimSiam"].build().double()
    views = [torch.rand(16, 1, 16, 16).double() for _ in range(2)]
    with torch.no_grad():
        z = [pair.model.encoder(view) for view in views]
        p = [pair.model.predictor.network(each) for each in z]  # type: ignore[operator]
        expected = (cosine_similarity(p[0], z[1]) + cosine_similarity(p[1], z[0])).mean() / 2
        loss = KLObjective()(pair.model, pair.guide)(views).item() / 16
    name, cosine = _loss_as_cosine(pair, "loss", loss)
    assert name == "cosine"
    assert cosine == pytest.approx(expected.item(), abs=1e-12)
    assert _loss_as_cosine(RECIPES["VI-SimSiam"].build(), "loss", loss) == ("loss", loss)


def test_weights_load_as_plain_tensors_and_predict_a_concentration(run: tuple[Path, str]) -> None:
    state = torch.load(run[0] / "vi-simsiam.pt", weights_only=True)
    pair = RECIPES["VI-SimSiam"].build()
    assert isinstance(pair, VISimSiam)
    pair.load_state_dict(state)
    with torch.no_grad():
        expert = pair.eval().model.expert(torch.rand(2, 1, 16, 16))
    assert isinstance(expert, PowerSpherical)
    assert (expert.concentration > 0).all()


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


def test_the_table_is_aligned_markdown() -> None:
    text = format_table(
        [("a", Measures(0.5, 0.25, 1.0, 10.0)), ("a longer name", Measures(0.5, 0.25, 1.0, 10.0, 0.75))]
    )
    lines = text.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split("|")[6].strip() == "–"
    assert lines[3].split("|")[6].strip() == "0.750"
