"""The command that runs everything that wants a GPU: it runs each part, keeps what they print, and says what failed."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import torch

from experiments import on_a_gpu

ROOT = Path(__file__).parents[2]
NOT_ON_A_GPU_MACHINE = ("plotly", "latex2mathml", "graphviz", "pyarrow", "hypothesis", "selenium", "flint")


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """Parts that end at once: well, badly, never, and badly before well."""
    parts = {
        "tests": [["platform"]],
        "run": [["no_such_module"], ["platform"]],
        "benchmark": [["timeit", "-n", "1000000000"], ["platform"]],
        "table 1": [["no_such_module"]],
    }
    monkeypatch.setattr(on_a_gpu, "commands", lambda _: parts)
    monkeypatch.setattr(on_a_gpu, "run_command", lambda *given, run=on_a_gpu.run_command: run(*given[:3], 3.0))
    return parts


@pytest.mark.usefixtures("stand_ins")
def test_a_part_that_fails_or_never_ends_keeps_no_other_from_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["table 1", "benchmark", "run", "tests"]
    assert on_a_gpu.main(["--tiny", "--out", str(tmp_path), "--parts", *names]) == 1
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    ended = [(part["part"], part["status"]) for part in summary["parts"]]
    assert ended == [("table 1", 1), ("benchmark", None), ("run", 1), ("run", 0), ("tests", 0)]
    assert "torch" in summary["versions"]
    assert "no_such_module" in (tmp_path / "0_table_1.log").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    for state in ("table 1: FAILED", "benchmark: was stopped for its time", "run: ended well", "tests: ended well"):
        assert state in printed
    with tarfile.open(tmp_path / "results.tar.gz") as archive:
        packed = set(archive.getnames())
    assert packed == {"summary.json", *(part["log"] for part in summary["parts"])}


@pytest.mark.usefixtures("stand_ins")
def test_a_part_that_succeeds_at_the_second_try_counts(tmp_path: Path) -> None:
    assert on_a_gpu.main(["--tiny", "--out", str(tmp_path), "--parts", "run"]) == 0


def test_nothing_is_started_when_the_time_is_over(tmp_path: Path) -> None:
    done = on_a_gpu.run_command("tests", ["platform"], tmp_path / "log", -1.0)
    assert (done.status, done.seconds) == (None, 0.0)
    assert not list(tmp_path.iterdir())


def test_children_of_a_stopped_part_are_ended_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "with_a_child.py").write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = on_a_gpu.run_command("run", ["with_a_child"], tmp_path / "log", 3.0)
    assert done.status is None
    child = int((tmp_path / "child").read_text())
    for _ in range(100):  # until its new parent has buried it
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child lives on")


def test_the_archive_holds_the_smallest_files_that_fit_and_says_what_does_not(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.csv").write_bytes(b"1,2\n")
    (tmp_path / "weights.safetensors").write_bytes(os.urandom(60_000))
    (tmp_path / "features.npz").write_bytes(os.urandom(20_000))
    for _ in range(2):  # anew each time, without itself
        assert on_a_gpu.write_archive(tmp_path, limit=40_000) == ["weights.safetensors"]
    with tarfile.open(tmp_path / "results.tar.gz") as archive:
        assert archive.getnames() == ["run/metrics.csv", "features.npz"]
    assert (tmp_path / "results.tar.gz").stat().st_size < 40_000


def options(tmp_path: Path, *, tiny: bool) -> argparse.Namespace:
    return argparse.Namespace(
        out=tmp_path,
        tiny=tiny,
        images=Path("images"),
        workers=16,
        config="some.yaml",
        run_options=["training.epochs=1"],
        table_options=["--root", "sets"],
    )


def test_every_part_has_commands_with_and_without_a_gpu(tmp_path: Path) -> None:
    for tiny in (False, True):
        commands = on_a_gpu.commands(options(tmp_path, tiny=tiny))
        assert tuple(commands) == on_a_gpu.PARTS
        for part, gpu in (("benchmark", "cuda"), ("table 1", "gpu")):
            (command,) = commands[part]
            assert command[command.index("--device") + 1] == ("cpu" if tiny else gpu)
        for command in commands["run"]:
            assert command[command.index("--config") + 1] == "some.yaml"
            assert "--training.epochs=1" in command
        recorded = ["--engine.cuda_graphs" in command for command in commands["run"]]
        assert recorded == ([False] if tiny else [True, False])  # not in one process after a failed recording
        assert len({command[-1] for command in commands["run"]}) == len(commands["run"])


def test_the_options_of_a_run_are_those_of_the_configuration(tmp_path: Path) -> None:
    from experiments.pretrain import parse  # noqa: PLC0415

    given = options(tmp_path, tiny=False)
    given.config = "experiments/configs/digits_vi_simsiam.yaml"
    for command in on_a_gpu.commands(given)["run"]:
        config, _ = parse(command[1:])
        assert (config.engine.precision, config.engine.compile, config.training.epochs) == ("bf16-mixed", True, 1)


def test_the_files_of_gpu_tests_are_named_and_import_where_optional_packages_are_missing(tmp_path: Path) -> None:
    (command,) = on_a_gpu.commands(options(tmp_path, tiny=False))["tests"]
    files = [name for name in command if name.endswith(".py")]
    arguments = ["--collect-only", *command[1:]]
    marked = [path for path in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.gpu" in path.read_text("utf-8")]
    assert {ROOT / name for name in files} >= set(marked)
    assert len(marked) > 5
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({NOT_ON_A_GPU_MACHINE!r}))\n"
        f"import pytest; sys.exit(pytest.main({arguments!r}))"
    )
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], cwd=ROOT, env=alone, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


ERRORS: dict[str, tuple[list[str], str]] = {
    "images": (["--images", "/no/such"], "argument --images: expected a folder that exists, got '/no/such'"),
    "run options": (["--run-options", "x"], "argument --run-options: expected KEY=VALUE, got 'x'"),
    "minutes": (["--total-minutes", "0"], "a whole number of at least 1, got '0'"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_arguments_give_one_line_before_anything_runs(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = ERRORS[case]
    with pytest.raises(SystemExit) as exit_:
        on_a_gpu.main(["--tiny", "--out", str(tmp_path), *arguments])
    assert exit_.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        on_a_gpu.main(["--out", str(tmp_path)])
    assert error.value.code == 2
    assert "--tiny" in capsys.readouterr().err
