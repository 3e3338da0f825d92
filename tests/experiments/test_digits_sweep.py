"""The sweep over seeds, learning rates and ablations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments import digits_sweep
from experiments.studies.digits import RECIPES, Measures


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Count the trainings instead of doing them: (label, seed, training images)."""
    done: list[tuple[str, int, int]] = []

    def measure(run: digits_sweep.Run, train: Any, test: Any, epochs: int) -> Measures:  # noqa: ARG001
        done.append((run.label, run.seed, len(train)))
        return Measures(0.1 * run.seed, run.recipe.learning_rate, 1.0, float(epochs))

    monkeypatch.setattr(digits_sweep, "_measure", measure)
    return done


def test_every_method_is_trained_with_every_seed(trainings: list[Any], tmp_path: Path) -> None:
    assert digits_sweep.main(["--seeds", "2", "--out", str(tmp_path)]) == 0
    assert {(label, seed) for label, seed, _ in trainings} == {(name, seed) for name in RECIPES for seed in (0, 1)}


def test_learning_rates_are_compared_without_the_test_images(trainings: list[Any], tmp_path: Path) -> None:
    digits_sweep.main(["--tune", "--seeds", "1", "--out", str(tmp_path)])
    assert len(trainings) == len(RECIPES) * len(digits_sweep.LEARNING_RATES)
    assert {images for *_, images in trainings} == {1010}  # three quarters of the 1,347 training images


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
    digits_sweep.main(["--seeds", "2", "--epochs", "7", "--out", str(tmp_path)])
    assert len(trainings) == count + 3 * len(RECIPES)  # other epochs are other trainings


def test_an_interrupted_sweep_keeps_what_was_done(
    trainings: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = digits_sweep._measure

    def interrupted(run: digits_sweep.Run, train: Any, test: Any, epochs: int) -> Measures:
        if len(trainings) == 3:
            raise KeyboardInterrupt
        return measure(run, train, test, epochs)

    monkeypatch.setattr(digits_sweep, "_measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        digits_sweep.main(["--seeds", "3", "--out", str(tmp_path)])
    monkeypatch.setattr(digits_sweep, "_measure", measure)
    digits_sweep.main(["--seeds", "3", "--out", str(tmp_path)])
    assert len(trainings) == len(set(trainings)) == 3 * len(RECIPES)


def test_the_summary_gives_mean_and_range(
    trainings: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits_sweep.main(["--seeds", "3", "--out", str(tmp_path)])
    assert trainings
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| SimSiam |"))
    assert row.split("|")[2].strip() == "0.100 (0.000 to 0.200)"


def test_ablations_change_one_thing_each() -> None:
    runs = list(digits_sweep.plan(1, tune=False, ablate=True))
    assert len({run.label for run in runs}) == len(runs)
    reference = runs[0]
    for run in (run for run in runs[1:] if run.method == reference.method and not run.label.startswith("the same")):
        changed = [
            run.recipe.gradient_clip != reference.recipe.gradient_clip,
            run.recipe.pair is not reference.recipe.pair,
            run.defects != reference.defects,
        ]
        assert sum(changed) == 1, run.label


def test_ablations_are_told_apart_in_the_record(trainings: list[Any], tmp_path: Path) -> None:
    digits_sweep.main(["--ablate", "--seeds", "2", "--out", str(tmp_path)])
    digits_sweep.main(["--ablate", "--seeds", "2", "--out", str(tmp_path)])
    assert len(trainings) == len(set(trainings)) == 2 * 8


def test_two_kinds_of_sweep_at_once_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        digits_sweep.main(["--tune", "--ablate", "--out", str(tmp_path)])
    assert exit_.value.code == 2
    assert "give one of them" in capsys.readouterr().err
