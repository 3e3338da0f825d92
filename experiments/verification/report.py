"""The ledger as a table on the terminal, as Markdown, as one HTML page that needs no network, and as JSON."""

from __future__ import annotations

import importlib
import math
import pkgutil
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

from experiments.records.environment import describe_device
from experiments.records.record import Cell, Record, Table, aligned_table, write_text
from experiments.verification.errata import ERRATA
from experiments.verification.lab import Lab
from experiments.verification.ledger import Result
from ssl_as_inference import derivations
from ssl_as_inference.derivations.step import Derivation

_COLUMNS = ("Equation", "Statement", "Kind", "Checked for", "Tolerance", "Error", "Verdict")
_OPERATOR = re.compile(r"<mi>(log|exp|cos|sin|min|max|lim)</mi>")
_BEFORE_BRACKET = re.compile(r'rspace="0.167em"(>\w+</mo>(?:<mrow>)?<mo stretchy="[a-z]+">(?:\(|&#x00028;))')
# LaTeX commands as a terminal shows them; the others lose their backslash
_SIGNS = {
    "kappa": "κ", "mu": "μ", "tau": "τ", "nu": "ν", "eta": "η", "theta": "θ", "phi": "φ", "psi": "ψ", "lambda": "λ",
    "nabla": "∇", "sum": "Σ", "int": "∫", "infty": "∞", "to": "→", "approx": "≈", "propto": "∝", "le": "≤", "ge": "≥",
    "sqrt": "√", "delta": "δ", "mid": "|", "cdot": "·", "top": "T", "sim": "~", "bar": "mean ",
    "mathcal": "", "mathbb": "", "mathrm": "", "frac": "", "left": "", "right": "",
}  # fmt: skip
_STYLE = """
body { font-family: system-ui, sans-serif; line-height: 1.5; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; display: block; font-size: 0.9rem; overflow-x: auto; }
th, td { border-bottom: 1px solid #ccc; padding: 0.35rem 0.6rem; text-align: left; vertical-align: top; }
td strong { color: #c0241f; } code { font-size: 0.9em; }
.math.block { overflow-x: auto; } .math.block math { math-style: normal; }
:root { color-scheme: light dark; }
@media (prefers-color-scheme: dark) { td strong { color: #ff7b72; } }
"""


def scientific(value: float) -> str:
    """A number as it stands in the tables: 0, 1.2e-13, ∞."""
    if value == 0:
        return "0"
    return f"{value:.1e}" if math.isfinite(value) else "∞"


def _cells(result: Result) -> list[str]:
    """What the columns say of a claim."""
    claim = result.claim
    numbers = [scientific(claim.tolerance), scientific(result.outcome.error)]
    verdict = "holds" if result.passed else "**FAILS**"
    return [claim.equation, claim.statement, claim.kind, claim.extent or "–", *numbers, verdict]


def summary(results: Sequence[Result]) -> str:
    """How many checks there were and how many passed."""
    failed = [result.claim.id for result in results if not result.passed]
    count = len({result.claim.id for result in results})
    text = f"{len(results)} checks of {count} claims in {sum(r.seconds for r in results):.0f} s: "
    return text + (f"{len(failed)} FAILED ({', '.join(dict.fromkeys(failed))})" if failed else "all hold")


def all_derivations() -> list[Derivation]:
    """Every derivation of `ssl_as_inference.derivations`, in the order of the paper's equations."""
    found: list[Derivation] = []
    for module in sorted(pkgutil.iter_modules(derivations.__path__), key=lambda m: m.name):
        for value in vars(importlib.import_module(f"{derivations.__name__}.{module.name}")).values():
            items = value if isinstance(value, tuple) else (value,)
            found += [item for item in items if isinstance(item, Derivation) and item not in found]
    return sorted(found, key=_place_in_the_paper)


def _place_in_the_paper(derivation: Derivation) -> tuple[int, int]:
    """Number of the first equation; Algorithm 1 comes after all of them, and what is beyond the paper at the end."""
    numbers = [int(found) for found in re.findall(r"\d+", derivation.equation)]
    kinds = [derivation.equation.startswith(sign) for sign in ("Eq", "Alg.")]
    return (kinds.index(True) if any(kinds) else len(kinds)), (numbers or [0])[0]


def plain(text: str, width: int) -> str:
    """Markdown with LaTeX for a terminal: shortened, without the marks."""
    text = re.sub(r"\\frac(\\[a-zA-Z]+|\w)\s*(\w)", r"\1/\2", text)
    text = text.replace(r"\,", " ").replace(r"\|", "‖")
    for command, sign in _SIGNS.items():
        text = re.sub(rf"\\{command}(?![a-zA-Z])", sign, text)
    text = re.sub(r"[$`{}*\\]", "", text)
    return text if len(text) <= width else text[: width - 1] + "…"


def terminal_table(results: Iterable[Result], width: int = 60) -> str:
    """One line for each check."""
    rows = [["Id", *_COLUMNS], *([result.claim.id, *_cells(result)] for result in results)]
    widths = (5, 24, width, 11, 30, 9, 9, 7)
    return aligned_table([[plain(cell, limit) for cell, limit in zip(row, widths, strict=True)] for row in rows])


def _errata(lab: Lab, heading: str) -> list[str]:
    lines = []
    for kind, title in (("error", "Errors"), ("reading", "Readings")):
        lines += [f"{heading} {title}", ""]
        for erratum in (erratum for erratum in ERRATA if erratum.kind == kind):
            lines += [
                f"{heading}# {erratum.place} ({erratum.claim})",
                "",
                f"- Printed: {erratum.printed}",
                f"- Corrected: {erratum.corrected}",
                f"- Code: {erratum.code}",
                f"- Counterexample: {erratum.check(lab).detail}",
                "",
            ]
    return lines


def errata_page() -> str:
    """The errata of the paper as a page of its own, in Markdown, with counterexamples computed now."""
    introduction = (
        "What arXiv:2203.11437v1 prints and what is right, each with a number that tells the two apart. Errors "
        "contradict the paper's own equations; readings hold only in a sense that the paper leaves to its reader. "
        "`python -m experiments.verify` computes each as printed, as corrected and as the code has it."
    )
    return "\n".join(["# Errata of the paper", "", introduction, "", *_errata(Lab(), "##")])


def record(results: Sequence[Result], lab: Lab, command: str) -> Record:
    """The run as a record: the ledger as a table, and every check in full for programs."""
    seen: Counter[str] = Counter()
    rows, checks = {}, []
    for result in results:
        seen[result.claim.id] += 1
        cells = [Cell(text=text) for text in _cells(result)]
        rows[f"{result.claim.id}.{seen[result.claim.id]}"] = dict(zip(_COLUMNS, cells, strict=True))
        told = {name: value for name, value in vars(result.claim).items() if name != "check"}
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
    measured, corrections = ["## What was measured", ""], ["", "## Corrections", ""]
    for name, check in zip(report.tables[0].rows, report.details["checks"], strict=True):
        measured.append(f"- **{name}** ({check['kind']}, {check['seconds']:.1f} s): {check['detail']}")
        if check["correction"] and not check["correction"].startswith("Code:"):
            corrections.append(f"- **{name}** ({check['equation']}): {check['correction']}")
    lines = [report.page(), *measured, *corrections, "", "## Errata of the paper", "", *_errata(lab, "###")]
    lines += ["## Derivations", "", "Printed from the objects that the symbolic checks verify.", ""]
    for derivation in all_derivations():
        lines += [f"### {derivation.equation}: {derivation.title}", "", "$$", derivation.latex(), "$$", ""]
    return "\n".join(lines)


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
    return [*(write_text(folder / name, page) for name, page in pages.items()), report.save(folder)]
