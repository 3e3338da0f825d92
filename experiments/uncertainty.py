"""Is κ an uncertainty? Measure a pretrained encoder's κ, and what competes with it, on images that are new to it.

U1 severity of degradations, U2 crops, U3 errors of nearest neighbours (R-AUROC), U4 abstention of a linear probe, U5
foreign images, U6 calibration, U7 likelihood, U8 known ambiguity; with bootstrap intervals, and beside κ: edge energy,
JPEG size, pixel entropy, norm of the features, distance to the nearest training image and to all of them
(Mahalanobis), cosine of two views, and the probe's maximum softmax. Give the checkpoints of several seeds of one
configuration to see what depends on the seed, and their ensemble as one more rival.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from experiments.command_line.parser import CommandLineParser, whole_number, writable_folder
from experiments.evaluation.evaluated_images import ImagesOptions, add_image_options, existing_path
from experiments.evaluation.uncertainty.ensemble import differ_in_seed_alone, ensemble_name, with_ensemble
from experiments.evaluation.uncertainty.measures import measure, measures
from experiments.evaluation.uncertainty.observations import Observations, chosen_images, observe
from experiments.evaluation.uncertainty.report import (
    AIM,
    curves,
    measures_table,
    networks_table,
    on_terminal,
    warnings,
)
from experiments.evaluation.uncertainty.rivals import KAPPA
from experiments.evaluation.uncertainty.seeds import seeds_table
from experiments.evaluation.uncertainty.subject import Subject, middles
from experiments.figures import concentration_figure, save_figure, uncertainty_figure
from experiments.images.degradation_series import DEGRADATIONS
from experiments.images.device_images import DeviceImages
from experiments.images.layouts import Split
from experiments.pretraining.configuration import PretrainConfig
from experiments.pretraining.export import Pretrained, load_pretrained
from experiments.pretraining.images import view_groups
from experiments.records.environment import typed_command
from experiments.records.record import Record

_PROGRAM = "python -m experiments.uncertainty"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    options = parser.parse_args(given)
    try:
        return _run(options, given)
    except (ValueError, OSError) as error:
        return parser.fail(error)


def _defects(config: PretrainConfig) -> str:
    return ", defects among the views" if view_groups(config)[0][0].has_defects else ""


def _parser() -> CommandLineParser:
    parser = CommandLineParser(prog=_PROGRAM, description=__doc__)
    parser.add_argument(
        "checkpoints", nargs="+", type=existing_path, help="folders of runs, .ckpt or .safetensors files, one a seed"
    )
    add_image_options(parser)
    parser.add_argument(
        "--foreign", nargs="+", default=[], metavar="SET", help="other sets, below the same root, for U5"
    )
    parser.add_argument(
        "--compare", type=existing_path, metavar="CHECKPOINT", help="another encoder whose cosine of two views competes"
    )
    parser.add_argument("--images", type=whole_number(2), default=2000, help="images of each set, at most")
    parser.add_argument("--resamples", type=whole_number(1), default=1000, help="resamples of the bootstrap")
    parser.add_argument(
        "--seed", type=whole_number(0, at_most=2**32 - 1), default=0, help="of images, degradations and resamples"
    )
    parser.add_argument("--name", default="uncertainty", help="of the record and its figures")
    parser.add_argument(
        "--out",
        type=writable_folder,
        default="runs/uncertainty",
        help="folder for record and figures; experiments/results publishes them",
    )
    return parser


def _run(options: argparse.Namespace, given: Sequence[str]) -> int:
    started = time.monotonic()
    pretrained = [load_pretrained(path) for path in options.checkpoints]
    seeds = tuple(one.config.seed for one in pretrained)
    names = [f"seed {seed}" if seeds.count(seed) == 1 else str(options.checkpoints[n]) for n, seed in enumerate(seeds)]
    images = _Images(ImagesOptions.of(options), options.device)
    observations = [_observe(one, images, options) for one in pretrained]
    together = differ_in_seed_alone([one.config for one in pretrained])
    if together and all(KAPPA in seen.names for seen in observations):
        observations = with_ensemble(observations)
    print(f"Looked at all images in {time.monotonic() - started:.0f} s; measuring with {options.resamples} resamples")
    measured = [measure(seen, resamples=options.resamples, seed=options.seed) for seen in observations]
    shown = [name for name in observations[0].names if all(name in seen.names for seen in observations)]
    judged = measures_table(measures(observations[0]), shown, measured)
    tables = [judged, networks_table(names, observations)]
    if together:
        tables.insert(1, seeds_table(judged, without={AIM, ensemble_name(len(pretrained))}))
    first = pretrained[0].config
    record = Record(
        name=options.name,
        title=f"Is κ an uncertainty? {first.method.name} on {options.data or first.data.name}{_defects(first)}",
        command=typed_command("experiments.uncertainty", given),
        configuration={
            "images": options.images,
            "resamples": options.resamples,
            "seed": options.seed,
            "degradations": {series.name: [series.unit, list(series.severities)] for series in DEGRADATIONS},
            "training": [one.config.to_dict() for one in pretrained],
        },
        seeds=seeds,
        tables=tuple(tables),
        figures=tuple(path.name for path in _draw(pretrained[0], observations[0], images, options)),
        notes=(*warnings(observations), *_about_seeds(together, len(pretrained))),
    )
    for note in record.notes:
        print(f"\n{note}")
    for table in tables:
        leading = None if table is tables[-1] else 2 if table is judged else 1
        print(f"\n{table.title}\n\n{on_terminal(table, leading)}\n\n{table.note}")
    saved = [record.save(options.out), *(options.out / figure for figure in record.figures)]
    print("\nSaved " + ", ".join(str(path) for path in saved))
    print(f"Done in {time.monotonic() - started:.0f} s")
    return 0


def _about_seeds(together: bool, checkpoints: int) -> tuple[str, ...]:
    if checkpoints == 1 or together:
        return ()
    return ("The checkpoints differ in more than the seed, or not in it: no intervals over seeds and no ensemble.",)


class _Images:
    """Images that are decoded once for all seeds."""

    def __init__(self, options: ImagesOptions, device: torch.device) -> None:
        self.options = options
        self.device = device
        self._loaded: dict[tuple[object, ...], DeviceImages] = {}

    def load(self, config: PretrainConfig, split: Split, name: str | None = None) -> DeviceImages:
        """Images as `ImagesOptions.load` gives them; the key is all of the configuration that they depend on."""
        key = (config.data.name, config.data.root, config.data.channels, config.views.size, split, name)
        if key not in self._loaded:
            self._loaded[key] = self.options.load(config, split, self.device, name=name)
        return self._loaded[key]


def _observe(pretrained: Pretrained, images: _Images, options: argparse.Namespace) -> Observations:
    config, device = pretrained.config, options.device
    other = None
    if options.compare is not None:
        compared = load_pretrained(options.compare)
        if compared.config.views.size != config.views.size or compared.config.data.channels != config.data.channels:
            raise ValueError(f"{options.compare} takes views of another size or other channels than the checkpoints")
        other = (compared.config.method.name, Subject.of(compared.pair, compared.config, device))
    return observe(
        Subject.of(pretrained.pair, config, device),
        images.load(config, "train"),
        images.load(config, "val"),
        {Path(name).name: images.load(config, "val", name) for name in options.foreign},
        images=options.images,
        other=other,
        seed=options.seed,
    )


def _draw(
    pretrained: Pretrained, observations: Observations, images: _Images, options: argparse.Namespace
) -> list[Path]:
    if KAPPA not in observations.names:
        return []
    subject = Subject.of(pretrained.pair, pretrained.config, options.device)
    test = images.load(pretrained.config, "val")
    pixels = middles(test, subject.recipe, chosen_images(len(test), options.images, options.seed))
    return [
        save_figure(uncertainty_figure(curves(observations)), options.out / f"{options.name}_curves.png"),
        save_figure(
            concentration_figure(-observations.clean[KAPPA], pixels), options.out / f"{options.name}_images.png"
        ),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
