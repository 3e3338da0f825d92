"""Check every equation of the paper: `python -m experiments.verify`.

Runs the ledger of claims (`experiments.verification`), prints it as a table and saves a report as Markdown, as one HTML
page and as JSON. The exit status is 0 if every claim that was run holds, and 1 otherwise.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from tqdm import tqdm

from experiments.command_line.parser import CommandLineParser, whole_number, writable_folder


def claim_id(text: str) -> str:
    """A type for `add_argument`: the number of a claim, with or without its C."""
    match = re.fullmatch(r"[cC]?(\d+)", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"expected the number of a claim, such as C12, got {text!r}")
    return f"C{int(match.group(1))}"


def parser() -> CommandLineParser:
    """The command line."""
    made = CommandLineParser(prog="python -m experiments.verify", description=__doc__.split("\n\n")[0])
    made.add_argument("--all", action="store_true", help="also run the claims that take long, such as trainings")
    made.add_argument(
        "--only", type=claim_id, nargs="+", metavar="ID", help="run only these claims, such as C12, long ones included"
    )
    made.add_argument("--device", default="cpu", help="where the shipped code computes: cpu, cuda, cuda:1, …")
    made.add_argument("--seed", type=whole_number(0, at_most=2**32 - 1), default=0, help="seed of all random draws")
    made.add_argument("--out", type=writable_folder, default="runs/verify", help="folder for the reports")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    made = parser()
    options = made.parse_args(arguments)
    from experiments.records.environment import typed_command  # noqa: PLC0415  # imports torch
    from experiments.verification import ledger, report  # noqa: PLC0415  # slow
    from experiments.verification.lab import Lab, device_named  # noqa: PLC0415

    every = ledger.claims()
    try:
        lab = Lab(device_named(options.device), options.seed)
        chosen = ledger.selected(every, only=options.only, long=options.all)
    except ValueError as error:
        made.error(str(error))
    if lab.device.type == "cuda":
        chosen = [claim for claim in chosen if claim.kind != "symbolic"]  # SymPy knows no device

    results: list[ledger.Result] = []
    with tqdm(sorted(chosen, key=ledger.number), unit="check", leave=False) as bar:
        for claim in bar:
            bar.set_description(f"{claim.id} {claim.kind}")
            results.append(ledger.run(claim, lab))
    print(report.terminal_table(results))
    for result in results:
        if not result.passed:
            print(f"\n{result.claim.id} FAILS, {result.claim.statement}\n  {result.outcome.detail}")
    left = len(every) - len(chosen)
    print(f"\n{report.summary(results)}" + (f"; {left} checks were not asked for" if left else ""))
    command = typed_command("experiments.verify", sys.argv[1:] if arguments is None else arguments)
    print("Saved: " + ", ".join(str(path) for path in report.write(results, lab, options.out, command)))
    return 0 if results and all(result.passed for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
