from __future__ import annotations

import argparse
import os
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from experiments.command_line.parser import CommandLineParser, whole_number, writable_folder


def parser() -> CommandLineParser:
    made = CommandLineParser(prog="python -m experiments.example", description="An example.")
    made.add_argument("--seed", type=whole_number(0, at_most=2**32 - 1), default=0, help="seed")
    made.add_argument("--epochs", type=whole_number(1), default=40, help="passes")
    made.add_argument("--out", type=writable_folder, default="runs/example", help="folder")
    return made


def test_arguments_are_read(tmp_path: Path) -> None:
    options = parser().parse_args(["--seed", "3", "--epochs", "7", "--out", str(tmp_path / "a" / "b")])
    assert (options.seed, options.epochs, options.out) == (3, 7, tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_tilde_is_the_home_of_the_user_and_nothing_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert parser().parse_args(["--out", "~/runs"]).out == tmp_path / "runs"
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    with pytest.raises(SystemExit):
        parser().parse_args(["--out", ""])
    assert "got '': use . for the current one" in capsys.readouterr().err


def test_defaults_are_read_as_if_they_had_been_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = parser().parse_args([])
    assert (options.seed, options.epochs, options.out) == (0, 40, Path("runs/example"))
    assert (tmp_path / "runs" / "example").is_dir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "argument --epochs: expected a whole number of at least 1, got '0'"),
        (["--epochs", "-3"], "argument --epochs: expected a whole number of at least 1, got '-3'"),
        (["--epochs", "2.5"], "argument --epochs: expected a whole number of at least 1, got '2.5'"),
        (["--epochs", "many"], "argument --epochs: expected a whole number of at least 1, got 'many'"),
        (["--epochs", ""], "argument --epochs: expected a whole number of at least 1, got ''"),
        (["--epochs"], "argument --epochs: expected one argument"),
        (["--seed", "-1"], "argument --seed: expected a whole number from 0 to 4294967295, got '-1'"),
        (["--seed", "4294967296"], "argument --seed: expected a whole number from 0 to 4294967295, got '4294967296'"),
        (["--sed", "1"], "unrecognized arguments: --sed 1"),
        (["extra"], "unrecognized arguments: extra"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_argument_gets_one_clear_line_and_status_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        parser().parse_args(arguments)
    assert exit_info.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"python -m experiments.example: error: {message} (see --help)\n"


def test_a_file_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as exit_info:
        parser().parse_args(["--out", str(tmp_path / "file")])
    assert exit_info.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "argument --out: expected a folder that can be written to, got" in error
    assert "File exists" in error


def test_looking_whether_a_folder_can_be_written_to_touches_nothing_in_it(tmp_path: Path) -> None:
    (tmp_path / ".writable").write_text("mine")
    parser().parse_args(["--out", str(tmp_path)])
    assert (tmp_path / ".writable").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [tmp_path / ".writable"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(SystemExit):
            parser().parse_args(["--out", str(tmp_path)])
    finally:
        tmp_path.chmod(stat.S_IRWXU)
    assert "Permission denied" in capsys.readouterr().err


def test_help_shows_the_defaults_and_creates_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_info:
        parser().parse_args(["--help"])
    assert exit_info.value.code == 0
    printed = capsys.readouterr().out
    for expected in ("An example.", "--seed", "default: 40", "default: runs/example"):
        assert expected in printed
    assert list(tmp_path.iterdir()) == []


def test_a_function_of_the_options_may_choose_the_module_and_its_mistakes_get_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def run(options: argparse.Namespace) -> int:
        ran.append(options.command)
        raise ValueError(f"seed {options.seed}")

    monkeypatch.setitem(sys.modules, "module_of_7", SimpleNamespace(run=run))
    made = CommandLineParser(prog="python -m experiments.example")
    made.add_argument("--seed", type=int)
    assert made.run(["--seed", "7"], lambda options: f"module_of_{options.seed}") == 2
    assert ran == ["python -m experiments.example --seed 7"]
    assert capsys.readouterr().err == "python -m experiments.example: error: seed 7\n"


def test_ctrl_c_ends_a_command_in_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(_: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "long_work", SimpleNamespace(run=stopped))
    assert parser().run(["--out", "."], "long_work") == 130
    assert capsys.readouterr().err == "\npython -m experiments.example: stopped\n"


@pytest.mark.parametrize(
    ("status", "said"), [(1, "error: step 3: the loss is nan"), (130, "stopped"), (143, "stopped")]
)
def test_a_training_that_failed_or_was_stopped_ends_a_command_in_a_line_with_its_status(
    status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class EndedError(RuntimeError):
        pass

    def ended(_: argparse.Namespace) -> int:
        error = EndedError("step 3: the loss is nan")
        error.status = status  # type: ignore[attr-defined]
        raise error

    monkeypatch.setitem(sys.modules, "training", SimpleNamespace(run=ended))
    assert parser().run(["--out", "."], "training") == status
    assert capsys.readouterr().err.strip() == f"python -m experiments.example: {said}"


def test_a_gpu_without_enough_memory_is_told_in_one_line_and_other_errors_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: argparse.Namespace) -> int:
        raise error

    monkeypatch.setitem(sys.modules, "out_of_memory", SimpleNamespace(run=fails))
    error: RuntimeError = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79 GiB.\nSee the manual."
    )
    assert parser().run(["--out", "."], "out_of_memory") == 2
    said = capsys.readouterr().err
    assert said.endswith(
        "CUDA out of memory. Tried to allocate 2.00 GiB. Smaller batches or fewer runs at once need less\n"
    )
    assert said.count("\n") == 1
    error = RuntimeError("a defect")
    with pytest.raises(RuntimeError, match="a defect"):
        parser().run(["--out", "."], "out_of_memory")
