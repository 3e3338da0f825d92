"""The ledger as a table on the terminal, as Markdown, as one HTML page that needs no network, and as JSON."""

from __future__ import annotations

import html
import importlib
import json
import math
import pkgutil
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import sympy
import torch
from latex2mathml.converter import convert

from experiments.verification.claim import Settings
from experiments.verification.errata import CLAIMS as ERRATA_CLAIMS
from experiments.verification.errata import ERRATA
from experiments.verification.ledger import Result
from ssl_as_inference import derivations
from ssl_as_inference.derivations.notation import to_latex
from ssl_as_inference.derivations.step import Derivation

_MATH_OR_CODE = re.compile(r"\$([^$]+)\$|`([^`]+)`")
_OPERATOR = re.compile(r"<mi>(log|exp|cos|sin|min|max|lim)</mi>")
_BEFORE_BRACKET = re.compile(r'rspace="0.167em"(>\w+</mo>(?:<mrow>)?<mo stretchy="[a-z]+">(?:\(|&#x00028;))')
# LaTeX commands as a terminal shows them; the others lose their backslash
_SIGNS = {
    "kappa": "κ", "mu": "μ", "tau": "τ", "nu": "ν", "eta": "η", "theta": "θ", "phi": "φ", "psi": "ψ", "lambda": "λ",
    "nabla": "∇", "sum": "Σ", "int": "∫", "infty": "∞", "to": "→", "approx": "≈", "propto": "∝", "le": "≤", "ge": "≥",
    "sqrt": "√", "delta": "δ", "mid": "|", "cdot": "·", "top": "T", "sim": "~", "bar": "mean ",
    "mathcal": "", "mathbb": "", "mathrm": "", "frac": "",
}  # fmt: skip
_STYLE = """
body { font-family: system-ui, sans-serif; line-height: 1.5; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
th, td { border-bottom: 1px solid #ccc; padding: 0.35rem 0.6rem; text-align: left; vertical-align: top; }
th { position: sticky; top: 0; background: Canvas; }
.pass { color: #1a7f37; font-weight: 600; } .fail { color: #c0241f; font-weight: 600; }
.note { color: #666; font-size: 0.85rem; } code { font-size: 0.9em; }
.wide { overflow-x: auto; } .wide math { math-style: normal; }
@media (max-width: 45rem) {
  .ledger thead { display: none; } .ledger td { display: inline; border: 0; padding: 0 0.4rem 0 0; }
  .ledger tr { display: block; border-bottom: 1px solid #ccc; padding: 0.5rem 0; overflow-x: auto; }
  .ledger td:nth-child(3) { display: block; }
  .ledger td:nth-child(5)::before { content: "tolerance "; } .ledger td:nth-child(6)::before { content: "error "; }
}
:root { color-scheme: light dark; }
@media (prefers-color-scheme: dark) { .pass { color: #4ac26b; } .fail { color: #ff7b72; } .note { color: #aaa; } }
"""


def scientific(value: float) -> str:
    """A number as it stands in the tables: 0, 1.2e-13, ∞."""
    if value == 0:
        return "0"
    return f"{value:.1e}" if math.isfinite(value) else "∞"


def verdict(result: Result) -> str:
    """Holds, or FAILS."""
    return "holds" if result.passed else "FAILS"


def environment(settings: Settings) -> str:
    """What the numbers were computed with."""
    device = torch.cuda.get_device_name(settings.device) if settings.device.type == "cuda" else "CPU"
    return (
        f"Python {platform.python_version()}, torch {torch.__version__}, SymPy {sympy.__version__}, {device}, "
        f"seed {settings.seed}"
    )


def summary(results: Sequence[Result]) -> str:
    """How many checks there were and how many passed."""
    failed = [result.claim.id for result in results if not result.passed]
    count = len({result.claim.id for result in results})
    text = f"{len(results)} checks of {count} claims in {sum(r.seconds for r in results):.0f} s: "
    return text + (f"{len(failed)} FAILED ({', '.join(dict.fromkeys(failed))})" if failed else "all hold")


def all_derivations() -> list[Derivation]:
    """Every derivation of `ssl_as_inference.derivations`, in the order of the paper's equations."""
    found = []
    for module in sorted(pkgutil.iter_modules(derivations.__path__), key=lambda m: m.name):
        for value in vars(importlib.import_module(f"{derivations.__name__}.{module.name}")).values():
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Derivation) and item not in found:
                    found.append(item)
    return sorted(found, key=_place_in_the_paper)


def _place_in_the_paper(derivation: Derivation) -> tuple[bool, int]:
    """Number of the first equation; Algorithm 1 comes after all of them."""
    return derivation.equation.startswith("Alg."), int(re.findall(r"\d+", derivation.equation)[0])


def plain(text: str, width: int) -> str:
    """Markdown with LaTeX for a terminal: shortened, without the marks."""
    text = re.sub(r"\\frac(\\[a-zA-Z]+|\w)\s*(\w)", r"\1/\2", text)
    text = text.replace(r"\,", " ").replace(r"\|", "‖")
    for command, sign in _SIGNS.items():
        text = re.sub(rf"\\{command}(?![a-zA-Z])", sign, text)
    text = re.sub(r"[$`{}\\]", "", text)
    return text if len(text) <= width else text[: width - 1] + "…"


def terminal_table(results: Iterable[Result], width: int = 60) -> str:
    """One line for each check."""
    rows = [("id", "equation", "statement", "kind", "tolerance", "error", "verdict")]
    rows += [
        (
            r.claim.id,
            plain(r.claim.equation, 24),
            plain(r.claim.statement, width),
            r.claim.kind,
            scientific(r.claim.tolerance),
            scientific(r.outcome.error),
            verdict(r),
        )
        for r in results
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * min(sum(widths) + 12, 160), *lines[1:]])


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def _errata(settings: Settings, heading: str) -> list[str]:
    lines = []
    for erratum in ERRATA:
        lines += [
            f"{heading} {erratum.place} ({erratum.claim})",
            "",
            f"- Printed: {erratum.printed}",
            f"- Corrected: {erratum.corrected}",
            f"- Code: {erratum.code}",
            f"- Counterexample: {erratum.check(settings).detail}",
            "",
        ]
    return lines


def errata_page() -> str:
    """The errata of the paper as a page of its own, in Markdown, with counterexamples computed now."""
    settings = Settings()
    introduction = (
        "What arXiv:2203.11437v1 prints and what is right, each with a number that tells the two apart. "
        "`python -m experiments.verify` computes it as printed, as corrected and as the code has it."
    )
    return "\n".join(["# Errata of the paper", "", introduction, "", *_errata(settings, "##")])


def markdown(results: Sequence[Result], settings: Settings) -> str:
    """The report as Markdown."""
    lines = [
        "# The equations of arXiv:2203.11437v1, checked",
        "",
        f"{summary(results)}. {environment(settings)}.",
        "",
        "| Id | Equation | Statement | Kind | Tolerance | Error | Verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in results:
        c = r.claim
        numbers = f"{scientific(c.tolerance)} | {scientific(r.outcome.error)} | {verdict(r)}"
        lines.append(f"| {c.id} | {_cell(c.equation)} | {_cell(c.statement)} | {c.kind} | {numbers} |")
    lines += ["", "## What was measured", ""]
    lines += [f"- **{r.claim.id}** ({r.claim.kind}, {r.seconds:.1f} s): {r.outcome.detail}" for r in results]
    lines += ["", "## Corrections", ""]
    lines += [
        f"- **{r.claim.id}** ({r.claim.equation}): {r.claim.correction}"
        for r in results
        if r.claim.correction and r.claim not in ERRATA_CLAIMS
    ]
    lines += ["", "## Errata of the paper", "", *_errata(settings, "###")]
    lines += ["## Derivations", ""]
    for derivation in all_derivations():
        lines += [f"### {derivation.equation}: {derivation.title}", "", "$$", derivation.latex(), "$$", ""]
    return "\n".join(lines)


def _mathml(latex: str) -> str:
    """LaTeX as MathML, with the thin spaces around log, cos and the like that the converter leaves out."""
    spaced = _OPERATOR.sub(r'<mo lspace="0.167em" rspace="0.167em">\1</mo>', convert(latex))
    return _BEFORE_BRACKET.sub(r'rspace="0"\1', spaced)


def _inline(text: str) -> str:
    """Markdown of one line with `code` and $LaTeX$ as HTML with MathML."""
    parts, end = [], 0
    for match in _MATH_OR_CODE.finditer(text):
        parts.append(html.escape(text[end : match.start()]))
        mathematics, code = match.groups()
        parts.append(_mathml(mathematics) if mathematics else f"<code>{html.escape(code)}</code>")
        end = match.end()
    parts.append(html.escape(text[end:]))
    return "".join(parts)


def _html_derivation(derivation: Derivation) -> str:
    rows = [f"<tr><td>{_mathml(to_latex(derivation.start))}</td><td></td></tr>"]
    rows += [
        f"<tr><td>{_mathml('= ' + to_latex(step.right))}</td><td>{html.escape(step.rule)}</td></tr>"
        for step in derivation
    ]
    title = html.escape(f"{derivation.equation}: {derivation.title}")
    return f'<h3>{title}</h3><div class="wide"><table>{"".join(rows)}</table></div>'


def _html_row(result: Result) -> str:
    claim = result.claim
    note = f'<div class="note">{_inline(result.outcome.detail)} ({result.seconds:.1f} s)</div>'
    if claim.correction:
        title = "" if claim in ERRATA_CLAIMS else "<b>Correction.</b> "
        note += f'<div class="note">{title}{_inline(claim.correction)}</div>'
    cells = [
        claim.id,
        html.escape(claim.equation),
        _inline(claim.statement) + note,
        claim.kind,
        scientific(claim.tolerance),
        scientific(result.outcome.error),
        f'<span class="{"pass" if result.passed else "fail"}">{verdict(result)}</span>',
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def html_page(results: Sequence[Result], settings: Settings) -> str:
    """The report as one HTML page, its mathematics as MathML, which browsers typeset by themselves."""
    head = "".join(
        f"<th>{name}</th>" for name in ("Id", "Equation", "Statement", "Kind", "Tolerance", "Error", "Verdict")
    )
    errata = "".join(
        f"<h3>{html.escape(e.place)} ({e.claim})</h3><ul><li>Printed: {_inline(e.printed)}</li>"
        f"<li>Corrected: {_inline(e.corrected)}</li><li>Code: {_inline(e.code)}</li>"
        f"<li>Counterexample: {_inline(e.check(settings).detail)}</li></ul>"
        for e in ERRATA
    )
    rows = "".join(_html_row(r) for r in results)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>The equations, checked</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>The equations of arXiv:2203.11437v1, checked</h1>"
        f"<p>{html.escape(summary(results))}. {html.escape(environment(settings))}.</p>"
        f'<table class="ledger"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f"<h2>Errata of the paper</h2>{errata}"
        f"<h2>Derivations</h2><p>Printed from the objects that the symbolic checks verify.</p>"
        f"{''.join(_html_derivation(d) for d in all_derivations())}</body></html>\n"
    )


def as_json(results: Sequence[Result], settings: Settings) -> str:
    """The report for machines; an error that is not finite is null."""
    checks: list[dict[str, Any]] = [
        {
            "id": r.claim.id,
            "equation": r.claim.equation,
            "statement": r.claim.statement,
            "kind": r.claim.kind,
            "tolerance": r.claim.tolerance,
            "error": r.outcome.error if math.isfinite(r.outcome.error) else None,
            "passed": r.passed,
            "detail": r.outcome.detail,
            "correction": r.claim.correction,
            "long": r.claim.long,
            "seconds": round(r.seconds, 3),
        }
        for r in results
    ]
    report = {
        "paper": "arXiv:2203.11437v1",
        "environment": environment(settings),
        "passed": all(r.passed for r in results),
        "checks": checks,
    }
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


def write(results: Sequence[Result], settings: Settings, folder: Path) -> list[Path]:
    """Write report.md, report.html and report.json into a folder.

    Returns:
        The three paths.
    """
    contents = {
        "report.md": markdown(results, settings),
        "report.html": html_page(results, settings),
        "report.json": as_json(results, settings),
    }
    paths = []
    for name, text in contents.items():
        (folder / name).write_text(text, encoding="utf-8")
        paths.append(folder / name)
    return paths
