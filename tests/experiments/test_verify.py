"""`python -m experiments.verify`: what it runs, prints, saves and returns."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments import verify
from experiments.verification.claim import Claim, Derivations, Outcome
from experiments.verification.lab import Lab
from experiments.verification.ledger import claims
from experiments.verification.report import all_derivations, on_a_gpu, summary


def fake(name: str, error: float, *, long: bool = False) -> Claim:
    return Claim(name, "Eq. (1)", f"${name}$ `holds`", "numeric", 1.0, lambda _: Outcome(error, "a | b"), long=long)


@pytest.fixture(scope="module")
def derivations() -> Derivations:
    """Those of the true ledger."""
    return all_derivations()


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> list[Claim]:
    every = [fake("C1", 0.5), fake("C2", 0.25), fake("C10", 0.125, long=True)]
    monkeypatch.setattr("experiments.verification.ledger.claims", lambda: tuple(every))
    return every


def checks(folder: Path) -> dict[str, bool]:
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return {check["id"]: check["passed"] for check in report["details"]["checks"]}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"C1", "C2"}),
        (["--all"], {"C1", "C2", "C10"}),
        (["--only", "c10"], {"C10"}),
        (["--only", "1", "2"], {"C1", "C2"}),
    ],
    ids=["default", "all", "only a long one", "only two"],
)
def test_what_is_asked_for_is_run(
    arguments: list[str], expected: set[str], ledger: list[Claim], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify.main([*arguments, "--out", str(tmp_path)]) == 0
    assert set(checks(tmp_path)) == expected
    assert f"{len(ledger) - len(expected)} checks were not asked for" in capsys.readouterr().out or len(expected) == 3


@pytest.mark.usefixtures("ledger")
def test_without_a_folder_named_the_report_has_one_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert verify.main([]) == 0
    assert set(checks(tmp_path / "runs" / "verify")) == {"C1", "C2"}


def test_a_failure_gives_status_1_and_is_shown(
    ledger: list[Claim], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.append(fake("C3", 2.0))
    assert verify.main(["--out", str(tmp_path)]) == 1
    assert checks(tmp_path)["C3"] is False
    shown = capsys.readouterr().out
    assert "C3 FAILS" in shown
    assert "3 checks of 3 claims" in shown
    assert "1 FAILED (C3)" in shown
    table = [line for line in shown.splitlines() if line.startswith("C") and "Eq. (1)" in line]
    assert [line.split()[-1] for line in table] == ["holds", "holds", "FAILS"]
    rows = re.findall(r"^\| (C\d)\.1 .* (\S+) \|$", (tmp_path / "report.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [("C1", "holds"), ("C2", "holds"), ("C3", "**FAILS**")]
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("<strong>FAILS</strong>") == 1


def test_on_a_gpu_only_what_computes_there_is_checked() -> None:
    """On a device that holds no numbers nothing can be computed: what passes there has been checked elsewhere."""
    lab = Lab(torch.device("meta"))
    elsewhere = []
    for claim in on_a_gpu(claims()):
        with suppress(NotImplementedError, RuntimeError):
            claim.check(lab)
            elsewhere.append(claim.statement.partition(" $")[0])
    assert elsewhere == ["The best κ is close to"]  # of formulas alone, by mpmath
    assert {claim.kind for claim in on_a_gpu(claims())} == {"numeric", "Monte Carlo"}
    assert summary([]) == "nothing was checked"


def test_a_formula_on_the_terminal_is_what_it_is_in_the_statement(
    ledger: list[Claim], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger[0] = replace(ledger[0], statement=r"The slope is $- \frac{\kappa}{c + 1}$.")
    verify.main(["--only", "C1", "--out", str(tmp_path)])
    assert r"The slope is $- \frac{\kappa}{c + 1}$." in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["--only", "C99"], ["--only", "twelve"], ["--device", "abacus"], ["--seed", "-1"], ["--seed", str(2**70)]],
    ids=str,
)
def test_a_wrong_argument_is_one_line_and_status_2(
    arguments: list[str], ledger: list[Claim], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status: int | str | None = verify.main([*arguments, "--out", str(tmp_path)])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert ledger


def test_the_page_needs_no_network_and_typesets_its_mathematics(
    derivations: Derivations, ledger: list[Claim], tmp_path: Path
) -> None:
    ledger[0] = replace(ledger[0], derivations=derivations)
    verify.main(["--out", str(tmp_path)])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\"<]*", page)) == {
        "http://www.w3.org/1998/Math/MathML"
    }  # a namespace, not loaded
    assert "<script" not in page
    assert "src=" not in page
    assert page.count("<math") > 50
    assert page.count("<mtable") > 30, "a derivation has a row for each step"
    assert "<mi>&</mi>" not in page, "a mark of alignment that was not translated"
    assert not re.search(r"<m[ion]>\\", page), "a command that was not translated"


def test_the_markdown_tables_cells_do_not_break_the_table(ledger: list[Claim], tmp_path: Path) -> None:
    verify.main(["--out", str(tmp_path)])
    rows = [
        line for line in (tmp_path / "report.md").read_text(encoding="utf-8").splitlines() if line.startswith("| C")
    ]
    assert len(rows) == 2
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 9 for row in rows)
    assert ledger
