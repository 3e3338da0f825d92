"""What `python -m experiments.uncertainty` does."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path

from experiments.command_line.parser import require_different_names
from experiments.evaluation.opening import Opener
from experiments.evaluation.report import publish, require_no_other_record
from experiments.evaluation.uncertainty.ensemble import differ_in_seed_alone, ensemble_name, with_ensemble
from experiments.evaluation.uncertainty.observations import Observations, chosen_images, look_at
from experiments.evaluation.uncertainty.report import DEGRADED_BY, curves, judge, warnings
from experiments.evaluation.uncertainty.rivals import KAPPA, Rivals
from experiments.evaluation.uncertainty.subject import Subject, middles
from experiments.figures import concentration_figure, save_figure, uncertainty_figure
from experiments.pretraining.export import Pretrained
from experiments.pretraining.images import view_groups
from experiments.records.environment import describe_device
from experiments.records.record import Record
from inference.fitting.checkpointing import digest


def run(options: Namespace) -> int:
    """Open, look, measure, print and save; returns the exit status.

    Raises:
        ValueError: If a checkpoint, the images or the device cannot be used, an encoder is given twice, or there is a
            record of other ones.
        OSError: If the record cannot be written.
    """
    started = time.monotonic()
    require_different_names("--foreign", options.foreign)
    opener = Opener(options)
    pretrained = [opener.encoder(path) for path in options.checkpoints]
    configs = [one.config for one in pretrained]
    sets = sorted({config.data.name for config in configs})
    if options.data is None and len(sets) > 1:
        raise ValueError(f"the checkpoints were trained on different sets, {', '.join(sets)}: name one with --data")
    encoders = [digest(one.pair.state_dict()) for one in pretrained]
    for number, encoder in enumerate(encoders):
        if (known := encoders.index(encoder)) < number:
            twice = f"{options.checkpoints[known]} and {options.checkpoints[number]}"
            raise ValueError(f"{twice} hold the same encoder: give each once")
    about = {"encoders": encoders, "data": options.data or sets[0]}
    require_no_other_record(options, about)
    first, seeds = configs[0], tuple(config.seed for config in configs)
    names = [f"seed {seed}" if seeds.count(seed) == 1 else str(options.checkpoints[n]) for n, seed in enumerate(seeds)]
    observations = [_observe(one, opener) for one in pretrained]
    together = differ_in_seed_alone(configs)
    if together and all(KAPPA in seen.names for seen in observations):
        observations = with_ensemble(observations)
    print(f"Looked at all images in {time.monotonic() - started:.0f} s; measuring with {options.resamples} resamples")
    tables = judge(names, observations, options, alike=together, without={ensemble_name(len(pretrained))})
    notes = list(warnings(observations))
    if len(pretrained) > 1 and not together:
        notes.append(
            "The checkpoints differ in more than the seed, or not in it: no intervals over seeds, no ensemble."
        )
    defects = ", defects among the views" if view_groups(first)[0][0].has_defects else ""
    record = Record(
        name=options.name,
        title=f"Is κ an uncertainty? {first.method.name} on {options.data or first.data.name}{defects}",
        command=options.command,
        configuration={
            **about,
            "images": options.images,
            "resamples": options.resamples,
            "seed": options.seed,
            "degradations": DEGRADED_BY,
            "training": [config.to_dict() for config in configs],
        },
        seeds=seeds,
        tables=tuple(tables),
        device=describe_device(options.device),
        figures=tuple(path.name for path in _draw(pretrained[0], observations[0], opener)),
        notes=tuple(notes),
    )
    return publish(record, [record.save(options.out), *(options.out / figure for figure in record.figures)], started)


def _observe(pretrained: Pretrained, opener: Opener) -> Observations:
    config, options = pretrained.config, opener.options
    other = None
    if options.compare is not None:
        compared = opener.encoder(options.compare)
        if compared.config.views.size != config.views.size or compared.config.data.channels != config.data.channels:
            raise ValueError(f"{options.compare} takes views of another size or other channels than the checkpoints")
        other = (compared.config.method.name, Subject.of(compared.pair, compared.config, options.device))
    subject, train = Subject.of(pretrained.pair, config, options.device), opener.decoded(config, "train")
    rivals = Rivals.fit(subject, train, other=other, seed=options.seed)
    foreign = {Path(name).name: opener.decoded(config, "val", name) for name in options.foreign}
    return look_at(rivals, opener.decoded(config, "val"), foreign, images=options.images)


def _draw(pretrained: Pretrained, observations: Observations, opener: Opener) -> list[Path]:
    if KAPPA not in observations.names:
        return []
    options = opener.options
    subject = Subject.of(pretrained.pair, pretrained.config, options.device)
    test = opener.decoded(pretrained.config, "val")
    pixels = middles(test, subject.recipe, chosen_images(len(test), options.images, options.seed))
    figures = {
        "curves": uncertainty_figure(curves(observations)),
        "images": concentration_figure(-observations.clean[KAPPA], pixels.__getitem__),
    }
    return [save_figure(figure, options.out / f"{options.name}_{name}.png") for name, figure in figures.items()]
