"""What a newcomer runs first: both methods on real digits, their table, figures, numbers and weights."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import torch

from experiments.command_line.progress import quiet_lightning
from experiments.figures import concentration_figure, loss_surface_figure, save_figure, training_curves_figure
from experiments.images.digits import LabelledImages, load
from experiments.records.environment import describe_device, installed_versions
from experiments.studies.digits import (
    RECIPES,
    Measures,
    Trained,
    format_table,
    raw_pixels,
    train_and_measure,
    untrained_encoder,
)


@quiet_lightning(threads=1)
def run(seed: int, epochs: int, out: Path) -> int:
    """Train, measure, save and say what to look at; returns the exit status.

    Args:
        seed: Of weights, order and augmentations.
        epochs: Passes over the training images.
        out: Folder for what is saved.
    """
    started = time.monotonic()
    device = describe_device()
    train, test = load()
    print(f"{len(train)} training and {len(test)} held-out digits, 16×16 pixels; {epochs} epochs on {device}")

    rows: dict[str, Measures] = {
        "raw pixels": raw_pixels(train, test),
        "untrained encoder": untrained_encoder(RECIPES["SimSiam"], train, test, seed=seed),
    }
    trained: dict[str, Trained] = {}
    for name in RECIPES:
        trained[name] = train_and_measure(name, RECIPES[name], train, test, epochs=epochs, seed=seed)
        rows[name] = trained[name].measures
    table = format_table(rows.items())
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
        "versions": installed_versions(),
        "measures": {name: asdict(row) for name, row in rows.items()},
        "history": {name: run.history for name, run in trained.items()},
    }
    (out / "results.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    paths = [out / "table.md", out / "results.json"]
    for name, run in trained.items():
        paths.append(out / f"{name.lower()}.pt")
        torch.save(run.pair.state_dict(), paths[-1])  # tensors alone: loads with weights_only=True
    return paths
