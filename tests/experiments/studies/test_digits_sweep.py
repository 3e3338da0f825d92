"""The sweep over seeds, learning rates and ablations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import digits_sweep
from experiments.studies import digits
from experiments.studies.digits import LEARNING_RATES, RECIPES, Measures, Recipe

pytestmark = pytest.mark.usefixtures("in_this_process")


class Trained:
    """What is read of a training."""

    def __init__(self, measures: Measures) -> None:
        self.measures = measures


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Count the trainings instead of doing them: (title, training images)."""
    done: list[tuple[str, int]] = []

    def train(name: str, recipe: Recipe, train: Any, test: Any, *, epochs: int, seed: int, watched: bool) -> Trained:  # noqa: ARG001
        done.append((name, len(train)))
        return Trained(Measures(0.1 * seed, recipe.learning_rate, 1.0, float(epochs)))

    monkeypatch.setattr(digits, "train_and_measure", train)
    return done


def test_every_method_is_trained_with_every_seed(trainings: list[Any], tmp_path: Path) -> None:
    assert digits_sweep.main(["--seeds", "2", "--out", str(tmp_path)]) == 0
    assert [title for title, _ in trainings] == [f"{name}, seed {seed}" for seed in (0, 1) for name in RECIPES]


def test_learning_rates_are_compared_without_the_test_images(trainings: list[Any], tmp_path: Path) -> None:
    digits_sweep.main(["--tune", "--seeds", "1", "--out", str(tmp_path)])
    assert len(trainings) == len(RECIPES) * len(LEARNING_RATES)
    assert {images for _, images in trainings} == {1010}  # three quarters of the 1,347 training images


def test_what_was_trained_before_is_not_trained_again(
    trainings: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits_sweep.main(["--seeds", "2", "--out", str(tmp_path)])
    first, count = capsys.readouterr().out, len(trainings)
    digits_sweep.main(["--seeds", "2", "--out", str(tmp_path)])
    assert len(trainings) == count
    table = [line for line in first.splitlines() if line.startswith("|")]
    assert table == [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    digits_sweep.main(["--seeds", "3", "--out", str(tmp_path)])
    assert len(trainings) == count + len(RECIPES)  # the third seed alone
    assert digits_sweep.main(["--seeds", "2", "--epochs", "7", "--out", str(tmp_path)]) == 2
    assert "is of other settings: epochs 60, now 7" in capsys.readouterr().err


def test_the_summary_gives_mean_and_range(
    trainings: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits_sweep.main(["--seeds", "3", "--out", str(tmp_path)])
    assert trainings
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| SimSiam "))
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[2] == "0.100 (0.000 to 0.200)"
    assert cells[-2] == "–"
    kept = [json.loads(path.read_text("utf-8")) for path in tmp_path.glob("*/*/result.json")]
    assert sorted((each["settings"]["label"], each["settings"]["seed"], each["measures"]["knn"]) for each in kept) == [
        (name, seed, 0.1 * seed) for name in RECIPES for seed in range(3)
    ]


def test_ablations_change_one_thing_each(tmp_path: Path) -> None:
    runs = digits.sweep(1, 60, tmp_path, ablate=True).everything
    assert len({run.name for run in runs}) == len(runs) == 8
    settings = [{name: value for name, value in run.settings.items() if name != "label"} for run in runs]
    for run, changed in zip(runs[1:], settings[1:], strict=True):
        names = {name for name in {*settings[0], *changed} if settings[0].get(name) != changed.get(name)}
        if run.label.startswith("SimSiam"):
            names -= {"pair", "nats_per", "gradient_clip"}
        assert len(names) == (2 if run.label.startswith("the same") else 1), run.label


def test_two_kinds_of_sweep_at_once_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        digits_sweep.main(["--tune", "--ablate", "--out", str(tmp_path)])
    assert exit_.value.code == 2
    assert "give one of them" in capsys.readouterr().err
