"""The command that runs everything that wants a GPU: it runs each part, keeps what they print, and says what failed."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from experiments import on_a_gpu

ROOT = Path(__file__).parents[2]
NOT_ON_A_GPU_MACHINE = (
    "plotly", "latex2mathml", "markdown_it", "graphviz", "pyarrow", "hypothesis", "selenium", "flint", "tensorboard",
    "distributed", "dask", "lightly", "power_spherical", "tensorflow_probability", "jax",
)  # fmt: skip
OF_THE_PARTS = ("table1", "studies.tables", "studies.conducting", "benchmarks.pretrain")


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """Parts that end at once: well, badly, never, and badly before well."""
    parts = {
        "tests": [["platform"]],
        "pairs": [["no_such_module"], ["platform"]],
        "jobs": [["timeit", "-n", "1000000000"], ["platform"]],
    }
    monkeypatch.setattr(on_a_gpu, "commands", lambda *_: parts)
    monkeypatch.setattr(on_a_gpu, "run_command", lambda *given, run=on_a_gpu.run_command: run(*given[:2], 3.0))
    return parts


@pytest.mark.usefixtures("stand_ins")
def test_a_part_that_fails_or_never_ends_keeps_no_other_from_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["jobs", "pairs", "tests"]
    assert on_a_gpu.main(["--tiny", "--out", str(tmp_path), "--parts", *names]) == 1
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    ended = [(part["part"], part["status"]) for part in summary["parts"]]
    assert ended == [("jobs", None), ("pairs", 1), ("pairs", 0), ("tests", 0)]
    assert "torch" in summary["versions"]
    assert "no_such_module" in (tmp_path / "1_pairs.log").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    for state in ("jobs: was stopped for its time", "pairs: FAILED", "pairs: ended well", "tests: ended well"):
        assert state in printed
    with tarfile.open(tmp_path / "results_1.tar.gz") as archive:
        packed = set(archive.getnames())
    assert packed == {"summary.json", *(part["log"] for part in summary["parts"])}


@pytest.mark.usefixtures("stand_ins")
def test_a_part_that_succeeds_at_the_second_try_counts_and_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert on_a_gpu.main(["--tiny", "--out", str(tmp_path), "--parts", "pairs"]) == 0
    kept = (tmp_path / "summary.json").read_bytes()
    assert on_a_gpu.main(["--tiny", "--out", str(tmp_path), "--parts", "tests"]) == 2
    assert capsys.readouterr().err.endswith(f"{tmp_path} holds the results of an earlier command: give another --out\n")
    assert (tmp_path / "summary.json").read_bytes() == kept


def test_a_training_that_fails_has_the_others_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = "import sys; from pathlib import Path; Path(sys.argv[1], 'table1.json').touch(); sys.exit(1)"
    (tmp_path / "with_a_table.py").write_text(table)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pairs = [["with_a_table", str(tmp_path)], ["platform"]]
    monkeypatch.setattr(on_a_gpu, "commands", lambda *_: {"pairs": pairs})
    assert on_a_gpu.main(["--tiny", "--out", str(tmp_path / "out"), "--parts", "pairs"]) == 1
    (one,) = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["parts"]
    assert one["status"] == 1


def test_the_tests_leave_the_time_to_parts_that_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    def note(_command: object, log: Path, limit: float, _meanwhile: object) -> int:
        log.write_text("")
        limits.append(limit)
        return 0

    monkeypatch.setattr(on_a_gpu, "run_command", note)
    for number, parts in enumerate((["tests"], ["tests", "pairs"])):
        assert on_a_gpu.main(["--tiny", "--out", str(tmp_path / str(number)), "--minutes", "8", "--parts", *parts]) == 0
    assert limits == [480.0, 120.0, 480.0]


def test_a_part_for_which_no_time_is_left_is_said_not_to_have_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(on_a_gpu, "commands", lambda *_: {"tests": [["platform"]], "pairs": [["platform"]]})
    whole, clock = on_a_gpu.run_command, [0.0]

    def takes_all(*given: Any) -> int | None:
        status = whole(*given)
        clock[0] += 3600.0
        return status

    monkeypatch.setattr(on_a_gpu, "run_command", takes_all)
    monkeypatch.setattr(on_a_gpu, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    assert on_a_gpu.main(["--tiny", "--out", str(tmp_path), "--parts", "tests", "pairs"]) == 1
    assert "pairs: was not started, the time is up\n" in capsys.readouterr().out
    tests, pairs = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["parts"]
    assert (tests["log"], "log" in pairs, pairs["status"]) == ("0_tests.log", False, None)


def test_nothing_is_started_when_the_time_is_over(tmp_path: Path) -> None:
    assert on_a_gpu.run_command(["platform"], tmp_path / "log", -1.0) is None
    assert not list(tmp_path.iterdir())


def test_children_of_a_stopped_part_are_ended_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "with_a_child.py").write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert on_a_gpu.run_command(["with_a_child"], tmp_path / "log", 3.0) is None
    child = int((tmp_path / "child").read_text())
    for _ in range(100):  # until its new parent has buried it
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child lives on")


@pytest.mark.usefixtures("signals")
def test_what_is_stopped_can_say_what_it_has_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = "import time\ntry:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    print('two have failed')\n"
    (tmp_path / "with_a_report.py").write_text(report)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert on_a_gpu.run_command(["with_a_report"], tmp_path / "log", 3.0) is None
    assert (tmp_path / "log").read_text(encoding="utf-8") == "two have failed\n"


def test_archives_are_fewer_bytes_than_are_handed_back() -> None:
    assert on_a_gpu.MOST_ARCHIVES <= 8
    assert on_a_gpu.ARCHIVE_BYTES < 16 * 2**20
    assert on_a_gpu.MOST_ARCHIVES * on_a_gpu.ARCHIVE_BYTES < 64 * 2**20


def test_archives_hold_the_smallest_files_that_fit_and_say_what_does_not(tmp_path: Path) -> None:
    work, back = tmp_path / "work", tmp_path / "back"
    (work / "run").mkdir(parents=True)
    back.mkdir()
    (work / "run" / "metrics.csv").write_bytes(b"1,2\n")
    sizes = {"weights.safetensors": 60_000, "features.npz": 20_000, "more.npz": 25_000, "most.npz": 26_000}
    for name, size in sizes.items():
        (work / name).write_bytes(os.urandom(size))
    for folder in (back, work):  # anew each time, and without themselves
        for _ in range(2):
            left_out = on_a_gpu.write_archives(work, folder, limit=40_000, most=2)
            assert left_out == ["most.npz", "weights.safetensors"]
        found = []
        for archive in sorted(folder.glob("results_*")):
            assert archive.stat().st_size < 40_000
            with tarfile.open(archive) as packed:
                found.append(packed.getnames())
        assert found == [["run/metrics.csv", "features.npz"], ["more.npz"]]
    for name in sizes:
        (work / name).unlink()
    on_a_gpu.write_archives(work, back, limit=40_000, most=2)
    assert [path.name for path in back.iterdir()] == ["results_1.tar.gz"]  # the second would bring back what has gone


def test_archives_hold_what_a_running_part_leaves_of_the_files_that_it_replaces_and_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("kept", "removed", "replaced"):
        (tmp_path / name).write_bytes(bytes(3000))
    is_file, gettarinfo = Path.is_file, tarfile.TarFile.gettarinfo

    def then_removed(path: Path) -> bool:
        found = is_file(path)
        if path.name == "removed":
            path.unlink()
        return found

    def then_replaced(archive: tarfile.TarFile, path: Path, name: str) -> tarfile.TarInfo:
        header = gettarinfo(archive, path, name)
        if path.name == "replaced":
            path.write_bytes(b"shorter")
        return header

    monkeypatch.setattr(Path, "is_file", then_removed)
    monkeypatch.setattr(tarfile.TarFile, "gettarinfo", then_replaced)
    assert not on_a_gpu.write_archives(tmp_path, tmp_path)
    with tarfile.open(tmp_path / "results_1.tar.gz") as archive:
        assert {member.name: member.size for member in archive} == {"kept": 3000, "replaced": 7}


@pytest.fixture
def signals() -> Iterator[None]:
    """As a terminal leaves them, also where these tests run in the background; put back afterwards."""
    usual: dict[signal.Signals, Any] = dict.fromkeys((signal.SIGTERM, signal.SIGHUP), signal.SIG_DFL)
    usual[signal.SIGINT] = signal.default_int_handler
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_stops_the_command_leaves_summary_and_archives_behind(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_command: object, log: Path, *_: object) -> None:
        log.write_text("saved at the last moment", encoding="utf-8")
        os.kill(os.getpid(), number)
        time.sleep(10)  # the signal ends it

    monkeypatch.setattr(on_a_gpu, "run_command", stopped)
    with pytest.raises(SystemExit, match=str(128 + number)):
        raise SystemExit(on_a_gpu.main(["--tiny", "--out", str(tmp_path)]))
    (part,) = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["parts"]
    assert part["status"] is None
    with tarfile.open(tmp_path / "results_1.tar.gz") as archive:
        assert set(archive.getnames()) == {"summary.json", "0_tests.log"}


def test_archives_are_written_while_a_part_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_a_gpu, "_BETWEEN_ARCHIVES", 0.2)
    written: list[float] = []
    command = ["timeit", "-n", "1", "-r", "1", "__import__('time').sleep(1.5)"]
    assert on_a_gpu.run_command(command, tmp_path / "log", 30.0, lambda: written.append(time.monotonic())) == 0
    assert len(written) >= 3


def options(tmp_path: Path, *, tiny: bool) -> argparse.Namespace:
    return argparse.Namespace(
        out=tmp_path, tiny=tiny, images=Path("images"), workers=16, table_options=["--root", "sets"]
    )


def test_every_part_has_commands_with_and_without_a_gpu(tmp_path: Path) -> None:
    for tiny in (False, True):
        commands = on_a_gpu.commands(options(tmp_path, tiny=tiny), 600.0)
        assert tuple(commands) == on_a_gpu.PARTS
        for part, gpu in (("steps", "cuda"), ("jobs", "cuda"), ("pairs", "gpu")):
            for command in commands[part]:
                assert command[command.index("--device") + 1] == ("cpu" if tiny else gpu)
        recorded = ["--eager" not in command for command in commands["pairs"]]
        assert recorded == [True, False]  # not in one process after a failed recording
        folders = [command[-1] for part in ("pairs", "steps", "jobs") for command in commands[part]]
        assert len(set(folders)) == 4  # what one has saved is neither lost nor written over when another is stopped
        assert all(command[command.index("--minutes") + 1] == "6.50" for command in commands["pairs"])  # of ten


def test_only_what_a_machine_lacks_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []
    folder, status = tmp_path / "my wheels", 0

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        (folder / "one.whl").write_bytes(bytes(3 * 2**20))
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(subprocess, "run", run)
    assert on_a_gpu.main(["--wheels", str(folder)]) == 0
    (command,) = asked
    assert command[1:4] == ["-m", "pip", "download"]
    assert command[command.index("--python-version") + 1] == "3.12"
    assert "pyro-ppl" in command
    said = capsys.readouterr().out
    assert said.startswith("3.0 MiB; install them there with: ")
    assert shlex.split(said.partition(": ")[2])[-1] == f"{folder}/*.whl"
    status = 1
    assert on_a_gpu.main(["--wheels", str(folder)]) == 1
    assert "install" not in capsys.readouterr().out


@pytest.mark.slow
def test_the_files_of_gpu_tests_are_named_and_import_where_optional_packages_are_missing(tmp_path: Path) -> None:
    (command,) = on_a_gpu.commands(options(tmp_path, tiny=False), 60.0)["tests"]
    files = [name for name in command if name.endswith(".py")]
    arguments = ["--collect-only", *command[1:]]
    marked = [path for path in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.gpu" in path.read_text("utf-8")]
    assert {ROOT / name for name in files} >= set(marked)
    assert len(marked) > 5
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({NOT_ON_A_GPU_MACHINE!r}))\n"
        f"for name in {OF_THE_PARTS!r}: __import__(f'experiments.{{name}}')\n"
        f"import pytest; sys.exit(pytest.main({arguments!r}))"
    )
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], cwd=ROOT, env=alone, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


ERRORS: dict[str, tuple[list[str], str]] = {
    "images": (["--images", "/no/such"], "argument --images: expected a folder that exists, got '/no/such'"),
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
    assert on_a_gpu.main(["--out", str(tmp_path)]) == 2
    assert "--tiny" in capsys.readouterr().err
