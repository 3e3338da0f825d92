"""List the commands: what each does, grouped by what a person wants."""

from __future__ import annotations

from pathlib import Path

from experiments.command_line.parser import docstring

GROUPS = {
    "See it": ("quickstart", "draw", "figure4"),
    "Use it": ("add_uncertainty", "pretrain", "evaluate", "embed"),
    "Check it": ("verify", "recover", "benchmark"),
    "Reproduce it": ("table1", "uncertainty", "recipes", "on_a_gpu", "results"),
}
"""The commands, in the order in which a newcomer would try them."""


def purpose(command: str) -> str:
    """The first line of a command's docstring, read without importing it."""
    return docstring(Path(__file__).parent / f"{command}.py").split("\n", maxsplit=1)[0]


def main() -> int:
    """Print the list; returns the exit status."""
    width = max(len(name) for names in GROUPS.values() for name in names)
    print("python -m experiments.COMMAND --help says what a command takes.")
    for group, names in GROUPS.items():
        print(f"\n{group}")
        for name in names:
            print(f"  {name:{width}}  {purpose(name)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
