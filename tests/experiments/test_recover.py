"""The published algorithms are recovered by the pairs: short versions of what the command runs."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mpmath
import pytest
import torch
from torch import Tensor

from experiments import recover
from experiments.records.record import Record
from experiments.special_cases import plain
from experiments.special_cases.methods import SIZES, Size, byol, log_vmf_normalizer, simsiam, vi_simsiam
from experiments.special_cases.recovery import (
    TOLERANCES,
    Sgd,
    Step,
    Training,
    digit_views,
    is_recovered,
    largest_differences,
    steps_of,
)
from experiments.special_cases.report import difference_table

Method = Callable[[Size, int], tuple[Training, Training]]
METHODS: dict[str, Method] = {"simsiam": simsiam, "byol": byol, "vi_simsiam": vi_simsiam}
SMALL = replace(SIZES["small"], batch_size=16)
STEPS = 15


def trained(
    method: Method, size: Size = SMALL, steps: int = STEPS, seed: int = 3
) -> tuple[Training, Training, list[Step]]:
    ours, published = method(size, seed)
    batches = digit_views(steps, batch_size=size.batch_size, seed=seed, pixels=size.pixels)
    return ours, published, list(steps_of(ours, published, batches))


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_the_pair_trains_as_the_published_algorithm(method: Method) -> None:
    start = method(SMALL, 3)[0].trainable()
    ours, published, steps = trained(method)
    worst = largest_differences(steps)
    assert worst["loss"] <= 1e-12
    assert worst["gradient"] <= 1e-10
    assert worst["weights"] <= 1e-8
    assert worst["buffers"] <= 1e-8
    # and the comparison is one of trainings that went somewhere, statistics of batch normalisation included
    assert max(float((x - y).detach().abs().max()) for x, y in zip(ours.trainable(), start, strict=True)) > 1e-2
    assert len(list(ours.parts.buffers())) == len(list(published.parts.buffers())) > 0
    assert all(int(buffer) == 2 * STEPS for buffer in list(ours.parts.buffers()) if buffer.dim() == 0)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_the_pair_trains_as_the_published_algorithm_with_resnet18(method: Method) -> None:
    _, _, steps = trained(method, replace(SIZES["resnet18"], batch_size=8), steps=2)
    assert is_recovered(steps), largest_differences(steps)


@pytest.mark.parametrize("concentration", [0.5, 8.0])
def test_any_constant_concentration_gives_simsiams_weights_when_the_steps_are_rescaled(concentration: float) -> None:
    _, _, steps = trained(lambda size, seed: simsiam(size, seed, concentration=concentration))
    assert is_recovered(steps), largest_differences(steps)


def test_byol_recovers_its_targets_weights_too() -> None:
    ours, published, _ = trained(byol)
    frozen = [x for x in ours.parts.parameters() if not x.requires_grad]
    expected = [x for x in published.parts.parameters() if not x.requires_grad]
    fresh = [x for x in byol(SMALL, 3)[0].parts.parameters() if not x.requires_grad]
    assert len(frozen) == len(expected) > 0
    for x, y in zip(frozen, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-8)
    assert max(float((x - y).detach().abs().max()) for x, y in zip(frozen, fresh, strict=True)) > 1e-4


def test_a_wrong_implementation_is_noticed() -> None:
    ours, published = simsiam(SMALL, 0)
    original = published.loss
    wrong = replace(published, loss=lambda views: original(views) * (1 + 1e-9))
    batches = digit_views(3, batch_size=16, seed=0)
    steps = list(steps_of(ours, wrong, batches))
    assert not is_recovered(steps)
    assert "DIFFERS" in difference_table(steps).markdown()


def test_a_difference_that_is_no_number_is_no_agreement() -> None:
    good = Step(1.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    assert is_recovered([good])
    for name in TOLERANCES:
        assert not is_recovered([good, replace(good, **{name: math.nan}), good])


def test_the_published_algorithms_import_nothing_of_this_project() -> None:
    for node in ast.walk(ast.parse(Path(plain.__file__).read_text(encoding="utf-8"))):
        names: list[str | None] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [node.module]
        for name in names:
            assert name is not None
            assert name.split(".")[0] in {"__future__", "copy", "math", "torch", "torchvision"}, name


@pytest.mark.parametrize("dim", [2, 3, 32, 256, 2048])
@pytest.mark.parametrize("concentration", [0.5, 1.0, 64.0])
def test_the_constant_between_objective_and_published_loss_is_the_log_normalizer(
    dim: int, concentration: float
) -> None:
    with mpmath.workdps(40):
        order = mpmath.mpf(dim) / 2 - 1
        kappa = mpmath.mpf(concentration)
        expected = (
            order * mpmath.log(kappa) - mpmath.mpf(dim) / 2 * mpmath.log(2 * mpmath.pi)
            - mpmath.log(mpmath.besseli(order, kappa))
        )  # fmt: skip
    assert log_vmf_normalizer(dim, concentration) == pytest.approx(float(expected), rel=1e-14, abs=1e-12)


def test_both_trainings_see_the_same_views_and_another_seed_gives_others() -> None:
    first, again, other = (next(digit_views(1, batch_size=8, seed=seed, pixels=8)) for seed in (1, 1, 2))
    assert [view.shape for view in first] == [(8, 1, 8, 8)] * 2
    assert first[0].dtype == torch.float64
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def test_rescaled_settings_take_the_same_step() -> None:
    weight = torch.tensor([1.0, -2.0], dtype=torch.float64)
    ends: list[Tensor] = []
    for scale in (1.0, 7.0):
        parameter = torch.nn.Parameter(weight.clone())
        optimizer = Sgd(0.1, 0.9, 0.01).for_loss_scaled_by(scale).optimizer([parameter])
        for _ in range(3):
            optimizer.zero_grad()
            (scale * parameter.exp().sum()).backward()
            optimizer.step()
        ends.append(parameter.detach())
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["byol", "vi_simsiam"])
def test_the_command_prints_its_table_and_saves_figure_and_numbers(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU that computes nothing here")
    assert recover.main([name, "--steps", "3", "--seed", "1", "--out", str(tmp_path / "made")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("agrees") == 4
    assert "DIFFERS" not in printed
    record = Record.load(tmp_path / "made" / f"{name}_small.json")
    assert record.details["recovered"] is True
    assert record.device.startswith("CPU (")
    assert len(record.details["steps"]) == 3
    assert record.command.startswith(f"python -m experiments.recover {name} --steps 3 --seed 1")
    assert (tmp_path / "made" / f"{name}_small.png").stat().st_size > 10_000


def test_the_command_fails_when_a_tolerance_is_not_met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOLERANCES, "loss", -1.0)
    assert recover.main(["vi_simsiam", "--steps", "1", "--out", str(tmp_path)]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "argument --steps: expected a whole number of at least 1, got '0'"),
        (["--backbone", "large"], "argument --backbone: invalid choice: 'large'"),
        (["--out", "README.md/below"], "argument --out: expected a folder that can be written to"),
    ],
)
def test_a_wrong_argument_gets_one_line_and_a_failing_status(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        recover.main(["simsiam", *arguments])
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
