"""A folder that one command is at work in is refused to others, and to nobody once its process has ended."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments import pretrain, table1
from experiments.command_line.lock import alone

ROOT = Path(__file__).parents[2]
HOLD = (
    "import sys\nfrom pathlib import Path\nfrom experiments.command_line.lock import alone\n"
    "with alone(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process at work in `tmp_path / "run"`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, cwd=ROOT) as process:  # type: ignore[call-overload]  # noqa: S603  # ours
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_in_use_is_refused_until_its_process_ends(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"run is in use by another command: wait, or give another --out"),
        alone(tmp_path / "run"),
    ):
        pass
    holder.kill()
    holder.wait()
    with alone(tmp_path / "run"):
        (tmp_path / "run" / "result").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["result"]


@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize(
    ("main", "options"),
    [
        (pretrain.main, ["--config", str(ROOT / "experiments/configs/digits.yaml"), "--engine.accelerator", "cpu"]),
        (table1.main, ["--scale", "tiny", "--rows", "pixels", "--device", "cpu"]),
    ],
    ids=["pretrain", "table1"],
)
def test_a_second_command_is_kept_out(
    main: Callable[[list[str]], int], options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, "--out", str(tmp_path / "run")]) == 2
    assert "run is in use by another command" in capsys.readouterr().err


def test_a_file_system_without_locks_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with alone(tmp_path / "run"):
        assert "no lock (No locks available): let no two commands write here at once" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
