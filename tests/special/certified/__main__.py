"""Search for the points at which the bounds of the special functions are closest to failing, and write the table.

    python -m tests.special.certified --out docs/results/certified_bounds.md     ten minutes of one core
    python -m tests.special.certified --family PS --rounds 2                     one family, briefly

Prints the worst points; ends with status 1 if a bound is violated at one of them. What is proved: at every point that
was evaluated the bound holds, reference and error being enclosed by balls. Between the points nothing is proved.
"""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path

import torch

from tests.special.certified.bounds import SINGLE, SINGLE_CHORD, constant, floors
from tests.special.certified.families import FAMILIES, Family
from tests.special.certified.search import DIMENSION, ONE, RELATIVE, Finding, Key, Result, search

DIMS = (2, 3, 4, 5, 8, 16, 18, 19, 20, 21, 33, 34, 45, 60, 61, 62, 63, 128, 512, 2048, 8192, 65536, 100_000)
PAIR_DIMS = (2, 3, 8, 20, 61, 62, 128, 2048, 10_000)
PRECISIONS = (torch.float64, torch.float32)
SCALES = {ONE: "max(1, …)", DIMENSION: "max(d, …)", RELATIVE: "relative"}
HEAD = """# Certified bounds of the special functions

`{command}` wrote this page.

**The bound.** For arguments x that are numbers of the precision, what is returned errs from the exact f(x) by at most

    c · max(floor, |f|, |xᵢ ∂f/∂xᵢ|) · ε,      ε = 2.2e-16 in float64, 1.2e-7 in float32.

The last term is how far f moves when an argument is rounded: next to a zero of log C in high dimension it is of the
size of d, while f is none. The floor is 1 in rows of the scale max(1, …), the dimension in max(d, …), and in relative
rows the least normal number, so that those bound the relative error. For CE, the cross-entropy, and log Z the largest
of the log densities at the modes counts as well. KL and CE to a Power Spherical have the term in κ₂ alone, log Z that
in min(e, h) and E log h none, which makes the bound the stronger.

**What is proved.** At each of the {points} points that were evaluated, and for every row, the bound holds: arb's ball
arithmetic (python-flint) encloses the exact value, from Bessel functions, log Γ, hypergeometric functions and
Gegenbauer series, and with it the error; the precision is raised until the ball is far below what is allowed.

**What is not proved.** Between the points this is an adaptive search. It starts at a grid and at every point where the
code changes its method or a quantity its sign, on both sides and next to it, and then looks around the worst points of
every row, in the arguments and in d. At {refused} points arb gave no small ball; of those nothing is claimed.

Range: d = 2 … 100,000 and κ = 0 … 1e38 for one distribution; d = 2 … 10,000 for two, at every angle, κ = 0 … 1e38 to a
von Mises–Fisher, 0 … 1e5 to a Power Spherical, 0 … 1e4 for log Z.
t = μᵀz, c = cos θ, h = (1 + c)/2, e = 1 − h; ′ and ″ are derivatives in κ, ∂₁ and ∂₂ in the concentration of guide and
expert, by autograd.

## float64

c is what the tests hold the code to; *largest* encloses the largest ratio of error to max(…) · ε that was found.
"""
TABLE = """
| Distribution | Quantity | Scale | c | largest | error there | d | at |
|---|---|---|---:|---:|---:|---:|---|
"""
SINGLE_HEAD = """
## float32

What float64 gives, rounded once: c = {single} for every row and scale. Where two directions meet, their chord is taken
in float32, and c = {chord}. The largest ratio of each family:

| Distribution | Quantity | Scale | largest | d | at |
|---|---|---|---:|---:|---|
"""


def place(family: Family, finding: Finding) -> str:
    """The arguments, with as many digits as tell the number from its neighbours."""
    names = ", ".join(f"{name} = {x!r}" for name, x in zip(family.arguments, finding.point, strict=True))
    return names + ("" if finding.cell.same_side else ", opposite")


def _enclosure(finding: Finding) -> str:
    middle, radius = float(finding.ratio.mid()), float(finding.ratio.rad())
    return f"{middle:.3f} ± {radius + 5e-4:.0e}"  # with the rounding of the digits printed


def _row(family: Family, key: Key, finding: Finding) -> str:
    (target, floor), double = key, finding.cell.dtype == torch.float64
    cells = [family.name, target.quantity + (f", {target.derivative}" if target.derivative else ""), SCALES[floor]]
    if double:
        cells.append(f"{constant(family.name, key, torch.float64):g}")
    cells.append(_enclosure(finding))
    if double:
        cells.append(f"{float(finding.error.mid()):.2e}")
    return f"| {' | '.join([*cells, f'{finding.cell.dim}', place(family, finding)])} |\n"


def violations(family: Family, result: Result) -> list[str]:
    """Findings at which a bound is not proved."""
    return [
        f"{family.name}, {key[0].quantity}{key[0].derivative} ({SCALES[key[1]]}): {found[0].at_most:.4g} at "
        f"d = {found[0].cell.dim}, {place(family, found[0])}, {found[0].cell.dtype}"
        for key, found in result.worst.items()
        if not found[0].at_most <= constant(family.name, key, found[0].cell.dtype)
    ]


def main() -> int:
    """Search, print and write; the exit status is the number of violated bounds, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="page to write (only with every family)")
    parser.add_argument("--family", choices=list(FAMILIES), action="append", help="search only these")
    parser.add_argument("--rounds", type=int, default=6, help="how often to look around the worst points")
    parser.add_argument("--starts", type=int, default=120, help="points to begin with in a cell of two distributions")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.out is not None and options.family:
        parser.error("--out takes the page of every family: leave --family out")
    body: dict[torch.dtype, str] = dict.fromkeys(PRECISIONS, "")
    points, refused, failed = 0, 0, []
    for family in (FAMILIES[name] for name in options.family or FAMILIES):
        several = len(family.arguments) > 1
        for dtype in PRECISIONS:
            rounds = options.rounds if dtype == torch.float64 else min(options.rounds, 1)
            result = search(
                family,
                functools.partial(floors, family.name),
                PAIR_DIMS if several else DIMS,
                dtype,
                rounds=rounds,
                starts=options.starts if several else None,
                seed=options.seed,
            )
            points, refused = points + result.points, refused + result.refused
            failed += violations(family, result)
            worst = {key: found[0] for key, found in result.worst.items()}
            if dtype == torch.float32:
                key = max(worst, key=lambda one: worst[one].at_most)
                worst = {key: worst[key]}
            rows = "".join(_row(family, key, finding) for key, finding in worst.items())
            print(f"{family.name}, {dtype}, {result.points} points\n{rows}", flush=True)
            body[dtype] += rows
    for line in failed:
        print(f"violated: {line}", file=sys.stderr)
    if options.out is not None and not failed:
        command = (
            f"python -m tests.special.certified --out {options.out} --rounds {options.rounds} --starts {options.starts}"
        )
        head = HEAD.format(command=f"{command} --seed {options.seed}", points=f"{points:,}", refused=refused)
        single = SINGLE_HEAD.format(single=SINGLE, chord=SINGLE_CHORD)
        options.out.write_text(head + TABLE + body[torch.float64] + single + body[torch.float32], encoding="utf-8")
    return min(1, len(failed))


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
