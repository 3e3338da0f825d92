"""Break the code in many places, one at a time, and see whether the ledger of claims notices.

    python tests/mutations/run.py                    every mutant, a quarter of an hour
    python tests/mutations/run.py --first 3          a few of them

Each mutant is a textual replacement (`mutants.py`) in a temporary copy of the packages. There a fresh process runs
the claims named with the mutant and then, while none has failed, all other claims that do not take long. A mutant is
caught when a claim fails or the code does not import. Survivors are listed; the exit status is 0 if at least 95 % of
the mutants are caught.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from mutants import MUTANTS, Mutant  # type: ignore[import-not-found]  # this folder is put on the path above

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("ssl_as_inference", "models", "inference", "experiments")
REQUIRED = 0.95
ORDER = "numeric, symbolic, Monte Carlo, trajectory"
SYMBOLIC_FIRST = "symbolic, numeric, Monte Carlo, trajectory"
CHILD = """
import sys, torch
torch.set_num_threads(1)
from experiments.verification.claim import Settings
from experiments.verification.ledger import claims, run
first, order = sys.argv[1].split(), sys.argv[2].split(", ")
quick = [claim for claim in claims() if not claim.long]
for claim in sorted(quick, key=lambda claim: (claim.id not in first, order.index(claim.kind))):
    result = run(claim, Settings())
    if not result.passed:
        print(claim.id, claim.kind, result.outcome.error, result.outcome.detail[:200].replace(chr(10), " "))
        sys.exit(1)
"""


def outcome(folder: Path, claims: str, order: str = ORDER, limit: float = 600) -> str:
    """What failed in this copy of the code; empty if nothing did."""
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, claims, order]
    try:
        done = subprocess.run(  # noqa: S603  # this interpreter on the text above
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {limit:.0f} s"
    if done.returncode == 0:
        return ""
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"


def try_mutant(mutant: Mutant, folder: Path) -> str:
    """What notices the mutant; empty if it survives."""
    path = folder / mutant.path
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.path} must hold {mutant.old!r} once, got {text.count(mutant.old)} times")
    try:
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        return outcome(folder, mutant.claims, SYMBOLIC_FIRST if "derivations" in mutant.path else ORDER)
    finally:
        path.write_text(text, encoding="utf-8")


def main() -> int:
    """Run the mutants; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--first", type=int, default=len(MUTANTS), help="run only so many mutants")
    parser.add_argument("--skip", type=int, default=0, help="leave out so many at the beginning")
    parser.add_argument("--no-baseline", action="store_true", help="do not check first that the unbroken code passes")
    parser.add_argument("--out", type=Path, help="write the result as JSON to this file")
    options = parser.parse_args()
    chosen = MUTANTS[options.skip : options.skip + options.first]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for room in ROOMS:
            shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
        failure = "" if options.no_baseline else outcome(folder, "")
        if failure:
            print(f"the unbroken code fails: {failure}")
            return 2
        records = []
        for number, mutant in enumerate(chosen, start=1):
            begin = time.monotonic()
            caught = try_mutant(mutant, folder)
            records.append({**mutant._asdict(), "caught_by": caught})
            state = f"caught by {caught[:90]}" if caught else "SURVIVES"
            seconds = time.monotonic() - begin
            print(f"{number}/{len(chosen)} [{seconds:.0f} s] {mutant.path}: {mutant.new.strip()!r} {state}", flush=True)
            if options.out:
                options.out.write_text(json.dumps(records, indent=1, ensure_ascii=False), encoding="utf-8")
    survivors = [record for record in records if not record["caught_by"]]
    rate = 1 - len(survivors) / len(records)
    print(f"\n{len(records) - len(survivors)} of {len(records)} mutants caught ({rate:.1%})")
    for record in survivors:
        print(f"survives: {record['path']}: {record['old']!r} -> {record['new']!r}")
    return 0 if rate >= REQUIRED else 1


if __name__ == "__main__":
    raise SystemExit(main())
