"""Check every equation of the paper: `python -m experiments.verify`.

Runs the ledger of claims (`experiments.verification`), prints it as a table and saves a report as Markdown, as one HTML
page and as JSON. The exit status is 0 if every claim that was run holds, and 1 otherwise.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

import torch
from tqdm import tqdm

from experiments.command_line.parser import CommandLineParser, whole_number, writable_folder
from experiments.verification.claim import Claim, Settings
from experiments.verification.ledger import Result, claims, number, run
from experiments.verification.report import summary, terminal_table, write


def claim_id(text: str) -> str:
    """A type for `add_argument`: the number of a claim, with or without its C."""
    match = re.fullmatch(r"[cC]?(\d+)", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"expected the number of a claim, such as C12, got {text!r}")
    return f"C{int(match.group(1))}"


def device(text: str) -> torch.device:
    """A type for `add_argument`: a device that can be computed on."""
    try:
        found = torch.device(text)
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"expected a device such as cpu or cuda, got {text!r}: {error}") from error
    if found.type not in {"cpu", "cuda"}:
        raise argparse.ArgumentTypeError(f"expected cpu or cuda, which have float64, got {text!r}")
    return found


def parser() -> CommandLineParser:
    """The command line."""
    made = CommandLineParser(prog="python -m experiments.verify", description=__doc__.split("\n\n")[0])
    made.add_argument("--all", action="store_true", help="also run the claims that take long, such as trainings")
    made.add_argument(
        "--only", type=claim_id, nargs="+", metavar="ID", help="run these claims alone, long ones too, such as C12"
    )
    made.add_argument("--device", type=device, default="cpu", help="where the shipped code computes")
    made.add_argument("--seed", type=whole_number(0), default=0, help="seed of all random draws")
    made.add_argument("--out", type=writable_folder, default="runs/verify", help="folder for the reports")
    return made


def selected(every: Sequence[Claim], *, only: Sequence[str] | None, long: bool) -> list[Claim]:
    """The claims to run.

    Raises:
        ValueError: If a claim of `only` does not exist.
    """
    if only:
        unknown = sorted(set(only) - {claim.id for claim in every})
        if unknown:
            known = ", ".join(sorted({claim.id for claim in every}, key=lambda name: int(name[1:])))
            raise ValueError(f"only must name claims of the ledger ({known}), got {', '.join(unknown)}")
        return [claim for claim in every if claim.id in only]
    return [claim for claim in every if long or not claim.long]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    made = parser()
    options = made.parse_args(arguments)
    settings = Settings(options.device, options.seed)
    every = claims()
    try:
        chosen = selected(every, only=options.only, long=options.all)
    except ValueError as error:
        made.error(str(error))
    if settings.device.type == "cuda":
        chosen = [claim for claim in chosen if claim.kind != "symbolic"]  # SymPy knows no device

    results: list[Result] = []
    with tqdm(chosen, unit="check", leave=False) as bar:
        for claim in bar:
            bar.set_description(f"{claim.id} {claim.kind}")
            results.append(run(claim, settings))
    results.sort(key=lambda result: number(result.claim))
    print(terminal_table(results))
    for result in results:
        if not result.passed:
            print(f"\n{result.claim.id} FAILS, {result.claim.statement}\n  {result.outcome.detail}")
    left = len(every) - len(chosen)
    print(f"\n{summary(results)}" + (f"; {left} checks were not asked for" if left else ""))
    print("Saved: " + ", ".join(str(path) for path in write(results, settings, options.out)))
    return 0 if results and all(result.passed for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
