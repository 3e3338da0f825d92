"""The command that runs everything that wants a GPU: it runs each part, keeps what they print, and says what failed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from experiments import on_a_gpu


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that end at once: well, badly, never."""
    parts = {"tests": ["platform"], "equations": ["no_such_module"], "distributions": ["timeit", "-n", "1000000000"]}
    monkeypatch.setattr(on_a_gpu, "commands", lambda *_, **__: parts)
    monkeypatch.setattr(on_a_gpu, "run_part", lambda *given, run=on_a_gpu.run_part: run(*given[:3], 3.0))


@pytest.mark.usefixtures("stand_ins")
def test_a_part_that_fails_or_never_ends_keeps_no_other_from_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["equations", "distributions", "tests"]
    assert on_a_gpu.main(["--tiny", "--out", str(tmp_path), "--parts", *names]) == 1
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert [part["part"] for part in summary["parts"]] == names
    assert [part["status"] for part in summary["parts"]] == [1, None, 0]
    assert "torch" in summary["versions"]
    assert "no_such_module" in (tmp_path / "equations.log").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    assert "equations: FAILED" in printed
    assert "distributions: was stopped for its time" in printed
    assert "tests: ended well" in printed


def test_every_part_has_a_command_with_and_without_a_gpu(tmp_path: Path) -> None:
    for tiny in (False, True):
        commands = on_a_gpu.commands(tmp_path, "images", 16, tiny=tiny)
        assert tuple(commands) == on_a_gpu.PARTS
        for part in ("equations", "distributions", "step and jobs", "run", "table 1"):
            device = commands[part][commands[part].index("--device") + 1]
            gpu = "gpu" if part == "table 1" else "cuda"
            assert device == ("cpu" if tiny else gpu)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        on_a_gpu.main(["--out", str(tmp_path)])
    assert error.value.code == 2
    assert "--tiny" in capsys.readouterr().err
