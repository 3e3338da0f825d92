"""Train SimSiam and VI-SimSiam by variational inference on real digits, in about three minutes on two cores.

SimSiam has von Mises–Fisher experts of constant concentration, VI-SimSiam Power Spherical experts whose concentration κ
is predicted and says how uncertain an image is. Both are fitted through their Pyro model/guide pair with the KL
objective. The command prints one table and saves the figures, the numbers and the weights.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import lightning
import pyro
import torch

import ssl_as_inference
from experiments.command_line.parser import (
    CommandLineParser,
    whole_number,
    writable_folder,
)
from experiments.command_line.progress import quiet_lightning_on_one_thread
from experiments.figures import concentration_figure, loss_surface_figure, save_figure, training_curves_figure
from experiments.images.digits import LabelledImages, load
from experiments.studies.digits import (
    RECIPES,
    Measures,
    Trained,
    format_table,
    raw_pixels,
    train_and_measure,
    untrained_encoder,
)


def parse(arguments: Sequence[str] | None) -> tuple[int, int, Path]:
    """Seed, epochs and output folder from the command line."""
    parser = CommandLineParser(prog="python -m experiments.quickstart", description=__doc__)
    parser.add_argument(
        "--seed", type=whole_number(0, at_most=2**32 - 1), default=0, help="seed of weights, order and augmentations"
    )
    parser.add_argument("--epochs", type=whole_number(1), default=60, help="passes over the 1,347 training images")
    parser.add_argument("--out", type=writable_folder, default="runs/quickstart", help="folder for what is saved")
    options = parser.parse_args(arguments)
    return options.seed, options.epochs, options.out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    with quiet_lightning_on_one_thread():
        return _run(*parse(arguments))


def _run(seed: int, epochs: int, out: Path) -> int:
    started = time.monotonic()
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU ({platform.machine()}), {torch.get_num_threads()} thread"
    )
    train, test = load()
    print(f"{len(train)} training and {len(test)} held-out digits, 16×16 pixels; {epochs} epochs on {device}")

    rows: dict[str, Measures] = {
        "raw pixels": raw_pixels(train, test),
        "untrained encoder": untrained_encoder(RECIPES["SimSiam"], train, test, seed=seed),
    }
    trained: dict[str, Trained] = {}
    for name in RECIPES:
        trained[name] = train_and_measure(name, train, test, epochs=epochs, seed=seed)
        rows[name] = trained[name].measures
    table = format_table(rows)
    print(f"\nHeld-out digits, seed {seed}:\n\n{table}\n")

    saved = [
        *_save_figures(trained, test, out),
        *_save_numbers(rows, trained, table, out, seed=seed, epochs=epochs, device=device),
    ]
    print("Saved:")
    for path in saved:
        print(f"  {path}")
    print(f"\nDone in {time.monotonic() - started:.0f} s. Next:")
    print(f"  look at {out / 'concentration.png'}: which digits does the model find uncertain, and are you surprised?")
    print("  python -m experiments.quickstart --seed 1         how much does the table change with the seed?")
    print("  python -m experiments.digits_sweep --help         more seeds, other learning rates, ablations")
    print("  python -m experiments.verify                      every equation of the paper, checked")
    print("  read ssl_as_inference/graphical_model.py          the model and the guide that were just fitted")
    return 0


def _save_figures(trained: dict[str, Trained], test: LabelledImages, out: Path) -> list[Path]:
    figures = {
        "training_curves.png": training_curves_figure({name: run.history for name, run in trained.items()}),
        "loss_surface.png": loss_surface_figure(RECIPES["VI-SimSiam"].dim),
        "concentration.png": concentration_figure(trained["VI-SimSiam"].test.concentration, test.images),
    }
    for name, figure in figures.items():
        save_figure(figure, out / name)
    return [out / name for name in figures]


def _save_numbers(
    rows: dict[str, Measures],
    trained: dict[str, Trained],
    table: str,
    out: Path,
    *,
    seed: int,
    epochs: int,
    device: str,
) -> list[Path]:
    (out / "table.md").write_text(table + "\n", encoding="utf-8")
    record = {
        "command": f"python -m experiments.quickstart --seed {seed} --epochs {epochs}",
        "device": device,
        "versions": {
            "ssl-as-inference": ssl_as_inference.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "pyro-ppl": pyro.__version__,
            "lightning": lightning.__version__,
        },
        "measures": {name: asdict(row) for name, row in rows.items()},
        "history": {name: run.history for name, run in trained.items()},
    }
    (out / "results.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    paths = [out / "table.md", out / "results.json"]
    for name, run in trained.items():
        paths.append(out / f"{name.lower()}.pt")
        torch.save(run.pair.state_dict(), paths[-1])  # tensors alone: loads with weights_only=True
    return paths


if __name__ == "__main__":
    raise SystemExit(main())
