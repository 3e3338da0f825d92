"""The comparison of pretraining with its peers: it runs, compares like with like, and says what it leaves out."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from experiments.benchmark import main
from experiments.benchmarks import jobs, pretrain, steps
from experiments.benchmarks.steps import peak_memory
from experiments.benchmarks.timing import Stopwatch, Times
from experiments.records.record import Cell, Record
from experiments.special_cases import methods

CPU = torch.device("cpu")


def test_peak_memory_is_what_is_held_at_once() -> None:
    def step() -> torch.Tensor:
        first = torch.ones(1000)  # 4000 bytes
        second = first * 2  # 4000 more, then the first goes
        del first
        return second.view(10, 100).add_(1)  # a view and an operation in place make nothing

    assert peak_memory(step, []) == 8000


def test_peak_memory_counts_what_was_there_and_what_autograd_keeps() -> None:
    weights = torch.ones(1000, requires_grad=True)

    def step() -> None:
        (weights * 2).exp().exp().sum().backward()
        weights.grad = None

    kept = 3 * 4000  # the weights, and each exponential keeps its result, the product nothing
    assert kept < peak_memory(step, [weights]) <= kept + 3 * 4000
    assert peak_memory(step, [weights]) == peak_memory(step, [weights])


def test_all_of_a_pair_is_made_where_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    places: set[torch.device] = set()

    def note(pair: nn.Module, *_: object, **__: object) -> None:
        places.update(tensor.device for tensor in pair.state_dict().values())
        raise KeyboardInterrupt

    monkeypatch.setattr(methods, "of_pair", note)
    networks, elsewhere = {steps.ALONE: steps.QUICK_NETWORKS[steps.ALONE]}, torch.device("meta")
    with pytest.raises(KeyboardInterrupt):
        steps.measure_training_steps(networks, 0, Stopwatch(elsewhere, 1), {steps.ALONE: 1})
    assert places == {elsewhere}


def test_times_have_quartiles_and_differences_of_the_same_round() -> None:
    one, other = Times((4.0, 2.0, math.nan, 8.0, 6.0)), Times((1.0, 1.0, 1.0, 1.0, 1.0))
    assert one.cell(quartiles=True).show(0) == "5000 (3500 to 6500)"
    assert one.cell().show(0) == "5000"
    assert Times((0.0123456,)).cell().show(0) == "12.3"
    assert one.difference_to(other) == 4.0


def test_the_steps_that_are_compared_are_the_same_step() -> None:
    networks, repeats = {steps.ALONE: steps.QUICK_NETWORKS[steps.ALONE]}, {steps.ALONE: 1}
    rows = steps.measure_training_steps(networks, 0, Stopwatch(CPU, 1), repeats)
    assert list(rows) == [f"{method} | no backbone" for method in ("SimSiam", "BYOL", "VI-SimSiam")]
    for method, cells in rows.items():
        assert (cells["cosine of gradients"].value or 0) > 1 - 1e-6, method
        assert 0.5 < (cells["memory"].value or 0) < 2, method


def test_a_row_holds_if_it_costs_no_more_than_it_may() -> None:
    def row(network: str, ours: float, memory: float) -> list[str]:
        cells: dict[str, Cell] = steps.row(network, Times((ours,)), Times((0.1,)), memory, 1.0)
        return [cell.show(0) for cell in cells.values()]

    assert row(steps.RESNET, 0.1029, 1.05)[-1] == "yes"
    assert row(steps.RESNET, 0.1031, 1.05)[-1] == "**no**"
    assert row(steps.RESNET, 0.1, 1.06)[-1] == "**no**"
    assert row(steps.ALONE, 0.1009, 2.0)[2:] == ["1.009", "+0.90", "+0.90", "2.000", "1.000000", "yes"]
    assert row(steps.ALONE, 0.1011, 1.0)[-1] == "**no**"


def test_images_a_second_are_related_to_lightlys_in_the_same_rounds() -> None:
    cells = jobs.cells({jobs.OURS_RESIDENT: Times((0.5, 0.25)), jobs.LIGHTLY: Times((1.0, 1.0))}, 64)
    assert cells[jobs.LIGHTLY]["images/s"].value == 64
    assert cells[jobs.LIGHTLY]["× lightly"].show(0) == "1.00"
    assert cells[jobs.OURS_RESIDENT]["× lightly"].show(0) == "2.67"  # the median of 1/2 and 1/4 is 3/8
    assert cells[jobs.OURS_RESIDENT]["× bare networks"].show(0) == "–"


def test_sample_images_are_a_set_of_two_classes(tmp_path: Path) -> None:
    jobs.write_sample_images(tmp_path / "images", 5)
    assert sorted(path.parent.name for path in tmp_path.rglob("*.jpg")) == ["flower"] * 2 + ["temple"] * 3


@pytest.fixture
def no_lightly(monkeypatch: pytest.MonkeyPatch) -> None:
    import_module = importlib.import_module

    def refuse(name: str, *arguments: Any) -> Any:
        if name.startswith("lightly"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return import_module(name, *arguments)

    monkeypatch.setattr(importlib, "import_module", refuse)
    monkeypatch.setattr(pretrain, "QUICK", pretrain.Sizes(1, 1, 1, 32, 2, 8, 4))
    small = {steps.ALONE: steps.QUICK_NETWORKS[steps.ALONE]}
    monkeypatch.setattr(steps, "QUICK_NETWORKS", small)


@pytest.mark.usefixtures("no_lightly")
def test_the_command_prints_and_saves_and_says_that_lightly_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.get_rng_state()
    assert main(["pretrain", "--quick", "--device", "cpu", "--out", str(tmp_path)]) == 0
    assert torch.equal(torch.get_rng_state(), state)
    page = (tmp_path / "benchmark_pretrain.md").read_text(encoding="utf-8")
    assert page.strip() in capsys.readouterr().out
    assert "| lightly | lightly is not installed: pip install -e '.[peers]' |" in page
    assert "| VI-SimSiam | no backbone |" in page
    assert f"| {jobs.OURS_LOADED} |" in page
    record = Record.load(tmp_path / "benchmark_pretrain.json")
    assert [note.split()[0] for note in record.notes] == ["Tiny", "Medians"]
    assert [table.title for table in record.tables] == [
        "One training step", "SimSiam with ResNet-18", "Left out", "Embedding with an added κ",
    ]  # fmt: skip
    assert list(record.tables[3].rows) == ["features alone", "features and κ"]
    assert set(record.tables[1].rows) == {jobs.OURS_LOADED, jobs.OURS_RESIDENT, jobs.BARE}
    assert all((cells["images/s"].value or 0) > 0 for cells in record.tables[1].rows.values())
    (milliseconds,) = record.tables[0].rows["SimSiam | no backbone"]["plain, ms (quartiles)"].each
    assert milliseconds is not None


def test_the_sizes_are_those_that_were_asked_for() -> None:
    assert isinstance(steps.NETWORKS[steps.ALONE].backbone(), nn.Module)
    assert steps.NETWORKS[steps.ALONE].dim == 2048
    assert steps.NETWORKS[steps.RESNET].pixels == 64
    assert steps.NETWORKS[steps.RESNET].batch_size == 64


ERRORS = {
    "part": (["--parts", "everything"], "invalid choice: 'everything'"),
    "repeats": (["--repeats", "0"], "a whole number of at least 1, got '0'"),
    "workers": (["--workers", "-1"], "a whole number of at least 0, got '-1'"),
    "images": (["--images", "no/such"], "argument --images: expected a folder that exists, got 'no/such'"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_arguments_give_one_line(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = ERRORS[case]
    with pytest.raises(SystemExit) as exit_:
        main(["pretrain", *arguments])
    assert exit_.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
