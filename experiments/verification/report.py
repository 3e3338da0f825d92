"""The ledger as it is run: a table on the terminal, Markdown, one HTML page that needs no network, and JSON."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import shorten

import torch
from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from tqdm import tqdm

from experiments.records.environment import describe_device, device_named
from experiments.records.record import Cell, Record, Table, aligned_table
from experiments.verification import ledger
from experiments.verification.claim import Claim
from experiments.verification.errata import ERRATA
from experiments.verification.lab import Lab
from experiments.verification.ledger import Result
from inference.fitting.checkpointing import replace_text
from ssl_as_inference.derivations.step import Derivation

_COLUMNS = ("Equation", "Statement", "Kind", "Checked for", "Tolerance", "Error", "Verdict")
_OPERATOR = re.compile(r"<mi>(log|exp|cos|sin|min|max|lim)</mi>")
_BEFORE_BRACKET = re.compile(r'rspace="0.167em"(>\w+</mo>(?:<mrow>)?<mo stretchy="[a-z]+">(?:\(|&#x00028;))')
_STYLE = """
body { font-family: system-ui, sans-serif; line-height: 1.5; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; display: block; font-size: 0.9rem; overflow-x: auto; }
th, td { border-bottom: 1px solid #ccc; padding: 0.35rem 0.6rem; text-align: left; vertical-align: top; }
td strong { color: #c0241f; } code { font-size: 0.9em; }
.math.block { overflow-x: auto; } .math.block math { math-style: normal; }
:root { color-scheme: light dark; }
@media (prefers-color-scheme: dark) { td strong { color: #ff7b72; } }
"""


def run(options: argparse.Namespace) -> int:
    """Run the claims that were asked for, report, and return the exit status: 0 if all of them hold, 1 if not."""
    lab, every = Lab(device_named(options.device, torch.float64), options.seed), ledger.claims()
    chosen = ledger.selected(every, only=options.only, long=options.all)
    if lab.device.type == "cuda":
        chosen = on_a_gpu(chosen)
    results: list[Result] = []
    with tqdm(chosen, unit="check", leave=False) as bar:
        for claim in bar:
            bar.set_description(f"{claim.id} {claim.kind}")
            results.append(ledger.run(claim, lab))
    print(terminal_table(results))
    for result in results:
        if not result.passed:
            print(f"\n{result.claim.id} FAILS, {result.claim.statement}\n  {result.outcome.detail}")
    left = len(every) - len(chosen)
    print(f"\n{summary(results)}" + (f"; {left} checks were not asked for" if left else ""))
    print("Saved: " + ", ".join(map(str, write(results, lab, options.out, options.command))))
    return 0 if results and all(result.passed for result in results) else 1


def on_a_gpu(claims: Iterable[Claim]) -> list[Claim]:
    """Those that compute on the device: SymPy knows none, and the trainings take place on the CPU."""
    return [claim for claim in claims if claim.kind not in {"symbolic", "trajectory"}]


def _cells(result: Result) -> list[str]:
    """What the columns say of a claim."""
    claim = result.claim
    sizes = (claim.tolerance, result.outcome.error)
    numbers = [f"{size:.1e}".replace("inf", "∞") if size else "0" for size in sizes]
    verdict = "holds" if result.passed else "**FAILS**"
    return [claim.equation, claim.statement, claim.kind, claim.extent or "–", *numbers, verdict]


def summary(results: Sequence[Result]) -> str:
    """How many checks there were and how many passed."""
    if not results:
        return "nothing was checked"
    failed = [result.claim.id for result in results if not result.passed]
    count = len({result.claim.id for result in results})
    text = f"{len(results)} checks of {count} claims in {sum(r.seconds for r in results):.0f} s: "
    return text + (f"{len(failed)} FAILED ({', '.join(dict.fromkeys(failed))})" if failed else "all hold")


def all_derivations() -> list[Derivation]:
    """Every derivation that a claim verifies, in the order of the claims."""
    found: list[Derivation] = []
    for claim in ledger.claims():
        found += [derivation for derivation in claim.derivations if derivation not in found]
    return found


def terminal_table(results: Iterable[Result]) -> str:
    """One line for each check, cut to fit; formulas are LaTeX, as in the report."""
    widths = (5, 24, 60, 11, 30, 9, 9, 7)

    def cut(row: list[str]) -> list[str]:
        return [shorten(cell.strip("*"), width, placeholder="…") for cell, width in zip(row, widths, strict=True)]

    return aligned_table([["Id", *_COLUMNS], *(cut([result.claim.id, *_cells(result)]) for result in results)])


def _errata(lab: Lab, heading: str) -> str:
    parts = []
    for kind, title in (("error", "Errors"), ("reading", "Readings")):
        parts.append(f"{heading} {title}")
        for erratum in (erratum for erratum in ERRATA if erratum.kind == kind):
            parts.append(f"{heading}# {erratum.place} ({erratum.claim})")
            told = {"Printed": erratum.printed, "Corrected": erratum.corrected, "Code": erratum.code}
            told["Counterexample"] = erratum.check(lab).detail
            parts.append("\n".join(f"- {name}: {text}" for name, text in told.items()))
    return "\n\n".join(parts) + "\n"


def errata_page() -> str:
    """The errata of the paper as a page of its own, in Markdown, with counterexamples computed now."""
    introduction = (
        "What arXiv:2203.11437v1 prints and what is right, each with a number that tells the two apart. Errors "
        "contradict the paper's own equations; readings hold only in a sense that the paper leaves to its reader. "
        "`python -m experiments.verify` computes each as printed, as corrected and as the code has it."
    )
    return f"# Errata of the paper\n\n{introduction}\n\n{_errata(Lab(), '##')}"


def record(results: Sequence[Result], lab: Lab, command: str) -> Record:
    """The run as a record: the ledger as a table, and every check in full for programs."""
    seen: Counter[str] = Counter()
    rows, checks = {}, []
    for result in results:
        claim = result.claim
        seen[claim.id] += 1
        cells = [Cell(text=text) for text in _cells(result)]
        rows[f"{claim.id}.{seen[claim.id]}"] = dict(zip(_COLUMNS, cells, strict=True))
        told = {name: value for name, value in vars(claim).items() if name not in {"check", "derivations"}}
        found = {"passed": result.passed, "seconds": round(result.seconds, 3)}
        checks.append(told | vars(result.outcome) | found)
    return Record(
        "report",
        "The equations of arXiv:2203.11437v1, checked",
        command,
        {"seed": lab.seed, "device": str(lab.device)},
        (lab.seed,),
        (Table("The ledger", _COLUMNS, rows, corner="Id"),),
        notes=(f"{summary(results)}.",),
        details={"paper": "arXiv:2203.11437v1", "passed": all(r.passed for r in results), "checks": checks},
        device=describe_device(lab.device),
    )


def markdown(report: Record, lab: Lab) -> str:
    """The report as Markdown: the record, what was measured, errata and derivations."""
    checks = dict(zip(report.tables[0].rows, report.details["checks"], strict=True))
    parts = [report.page(), "## What was measured\n"]
    parts += [f"- **{name}** ({of['kind']}, {of['seconds']:.1f} s): {of['detail']}" for name, of in checks.items()]
    parts.append("\n## Corrections\n")
    told = {name: of for name, of in checks.items() if of["correction"] and not of["correction"].startswith("Code:")}
    parts += [f"- **{name}** ({of['equation']}): {of['correction']}" for name, of in told.items()]
    parts += ["\n## Errata of the paper\n", _errata(lab, "###")]
    parts.append("## Derivations\n\nPrinted from the objects that the symbolic checks verify.\n")
    parts += [f"### {each.equation}: {each.title}\n\n$$\n{each.latex()}\n$$\n" for each in all_derivations()]
    return "\n".join(parts)


def _mathml(latex: str, options: dict[str, bool]) -> str:
    """LaTeX as MathML, with the thin spaces around log, cos and the like that the converter leaves out."""
    latex = latex.replace("{aligned}", "{align*}")  # which the converter knows, as rows
    converted = convert(latex, display="block" if options["display_mode"] else "inline")
    spaced = _OPERATOR.sub(r'<mo lspace="0.167em" rspace="0.167em">\1</mo>', converted)
    return _BEFORE_BRACKET.sub(r'rspace="0"\1', spaced)


def html_page(text: str) -> str:
    """The Markdown report as one HTML page, its mathematics as MathML, which browsers typeset by themselves."""
    reader = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, renderer=_mathml)
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>The equations, checked</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body>{reader.render(text)}</body></html>\n"
    )


def write(results: Sequence[Result], lab: Lab, folder: Path, command: str) -> list[Path]:
    """Write report.md, report.html and report.json into a folder.

    Returns:
        The three paths.
    """
    report = record(results, lab, command)
    text = markdown(report, lab)
    pages = {"report.md": text, "report.html": html_page(text)}
    return [*(replace_text(folder / name, page) for name, page in pages.items()), report.save(folder)]
