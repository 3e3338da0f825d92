"""Break the code in many places, one at a time, and see whether the ledger of claims or the tests notice.

    python tests/mutations/run.py                    every mutant, a quarter of an hour
    python tests/mutations/run.py --sample 30        thirty of them, others each time

Each mutant is a textual replacement (`mutants.py`) in a temporary copy of the packages. There a fresh process runs
the claims named with the mutant and then, while none has failed, all other claims that do not take long; or, where the
mutant names tests, those. A mutant is caught when a claim or a test fails or the code does not import. Survivors are
listed; the exit status is 0 if at least 98 % of the mutants are caught, or of a sample so many that 98 % of all may be.
`--jobs 2` tries two at a time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from mutants import MUTANTS, Mutant  # type: ignore[import-not-found]  # this folder is put on the path above

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("ssl_as_inference", "models", "inference", "experiments", "tests")
REQUIRED = 0.98
ORDER = "numeric, symbolic, Monte Carlo, trajectory"
SYMBOLIC_FIRST = "symbolic, numeric, Monte Carlo, trajectory"
CHILD = """
import sys, torch
torch.set_num_threads(1)
from experiments.verification.lab import Lab
from experiments.verification.ledger import claims, run
first, order = sys.argv[1].split(), sys.argv[2].split(", ")
quick = [claim for claim in claims() if not claim.long]
for claim in sorted(quick, key=lambda claim: (claim.id not in first, order.index(claim.kind))):
    result = run(claim, Lab())
    if not result.passed:
        print(claim.id, claim.kind, result.outcome.error, result.outcome.detail[:200].replace(chr(10), " "))
        sys.exit(1)
"""


def outcome(folder: Path, claims: str, order: str = ORDER, limit: float = 600) -> str:
    """What failed in this copy of the code; empty if nothing did."""
    return ended(folder, [sys.executable, "-c", CHILD, claims, order], limit)


def run_tests(folder: Path, tests: str, limit: float = 600) -> str:
    """Which test failed in this copy of the code; empty if none did."""
    options = ["-q", "-x", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
    return ended(folder, [sys.executable, "-m", "pytest", *options, *tests.split()], limit)


def ended(folder: Path, command: list[str], limit: float) -> str:
    """The last line of a command that fails in a copy of the code; empty if it succeeds."""
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(  # noqa: S603  # this interpreter on the text above
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {limit:.0f} s"
    if done.returncode == 0:
        return ""
    lines = (done.stdout.strip() or done.stderr.strip()).splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return (failed or lines or [f"exit status {done.returncode}"])[-1]


def try_mutant(mutant: Mutant, folder: Path) -> str:
    """What notices the mutant; empty if it survives."""
    path = folder / mutant.path
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.path} must hold {mutant.old!r} once, got {text.count(mutant.old)} times")
    try:
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        if mutant.tests:
            return run_tests(folder, mutant.tests)
        return outcome(folder, mutant.claims, SYMBOLIC_FIRST if "derivations" in mutant.path else ORDER)
    finally:
        path.write_text(text, encoding="utf-8")


def copies(place: Path, count: int) -> queue.SimpleQueue[Path]:
    """So many copies of the code, each for one mutant at a time."""
    free: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for number in range(count):
        folder = place / str(number)
        for room in ROOMS:
            shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        free.put(folder)
    return free


def unbroken(mutants: Sequence[Mutant], folder: Path) -> str:
    """What fails, of all that is to notice these mutants, in the code as it is; empty if nothing does."""
    tests = dict.fromkeys(name for mutant in mutants for name in mutant.tests.split())
    failure = outcome(folder, "") if any(mutant.claims for mutant in mutants) else ""
    return failure or (run_tests(folder, " ".join(tests)) if tests else "")


def allowed_survivors(count: int) -> int:
    """The most survivors in a sample of so many mutants that are not a surprise, at one in a thousand, if 2 % survive.

    Example:
        >>> allowed_survivors(30)
        4
    """
    chances = (math.comb(count, k) * (1 - REQUIRED) ** k * REQUIRED ** (count - k) for k in range(count + 1))
    return next(k for k, below in enumerate(accumulate(chances)) if below >= 0.999)


def main() -> int:
    """Run the mutants; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--first", type=int, default=len(MUTANTS), help="run only so many mutants")
    parser.add_argument("--skip", type=int, default=0, help="leave out so many at the beginning")
    parser.add_argument("--only", default="", help="run only the mutants whose path holds this text")
    parser.add_argument("--sample", type=int, help="run so many of them, drawn at random")
    parser.add_argument("--seed", type=int, help="of the sample; another one each time when not given")
    parser.add_argument("--jobs", type=int, default=1, help="so many at a time")
    parser.add_argument("--no-baseline", action="store_true", help="do not check first that the unbroken code passes")
    parser.add_argument("--out", type=Path, help="write the result as JSON to this file")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if options.only in mutant.path][options.skip :][: options.first]
    if options.sample:
        seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
        print(f"a sample of {options.sample} of {len(chosen)} mutants, --seed {seed}")
        chosen = random.Random(seed).sample(chosen, min(options.sample, len(chosen)))  # noqa: S311  # no secret
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(options.jobs) as pool:
        free = copies(Path(name), options.jobs)

        def tried(mutant: Mutant) -> tuple[str, float]:
            folder, begin = free.get(), time.monotonic()
            try:
                return try_mutant(mutant, folder), time.monotonic() - begin
            finally:
                free.put(folder)

        folder = free.get()
        failure = "" if options.no_baseline else unbroken(chosen, folder)
        free.put(folder)
        if failure:
            print(f"the unbroken code fails: {failure}")
            return 2
        records = []
        for mutant, (caught, seconds) in zip(chosen, pool.map(tried, chosen), strict=True):
            records.append({**mutant._asdict(), "caught_by": caught})
            state = f"caught by {caught[:90]}" if caught else "SURVIVES"
            number = f"{len(records)}/{len(chosen)} [{seconds:.0f} s]"
            print(f"{number} {mutant.path}: {mutant.new.strip()!r} {state}", flush=True)
            if options.out:
                options.out.write_text(json.dumps(records, indent=1, ensure_ascii=False), encoding="utf-8")
    survivors = [record for record in records if not record["caught_by"]]
    rate = 1 - len(survivors) / len(records)
    print(f"\n{len(records) - len(survivors)} of {len(records)} mutants caught ({rate:.1%})")
    for record in survivors:
        print(f"survives: {record['path']}: {record['old']!r} -> {record['new']!r}")
    if options.sample:
        return 0 if len(survivors) <= allowed_survivors(len(records)) else 1
    return 0 if rate >= REQUIRED else 1


if __name__ == "__main__":
    raise SystemExit(main())
