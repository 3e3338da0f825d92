"""The recipes: VI-SimSiam with one thing changed at a time, beside SimSiam and the paper's literal reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from experiments.studies.rows import REFERENCE, TUNED, Method, Row
from experiments.studies.rows import rows as table1_rows

PLAIN = "vi_simsiam"
"""The recipe that the others change one thing of."""

KEYS = {
    "simsiam": "SimSiam",
    "as_printed": "literally as printed",
    "vi_simsiam": "VI-SimSiam",
    "softplus": "κ = softplus(raw), no bound",
    "per_image": "loss in nats for an image",
    "beta": "weighted by κ^(−1/2)",
    "beta_one": "weighted by κ^(−1)",
    "without_pull": "divided by κ/(1 + c)",
    "stopped_head": "head behind a stop-gradient",
    "slow_head": "head's rate × 0.1",
    "fast_head": "head's rate × 10",
    "decayed_head": "head's weight decay × 100",
    "normalized": "normalised product",
    "defects": "noise and covers among views",
    "defects_without_pull": "noise and covers, divided by κ/(1 + c)",
    "fine_defects": "blur and down-scaling among views",
    "all_defects": "all four defects among views",
}
"""Recipes on the command line and in the tables, in the order of the latter; those of table 1 have its keys."""

DEFECT_PROBABILITY = 0.25
"""Of each defect in a view, as in experiments/configs/changes/defects_among_views.yaml."""

_DECAY = 100 * float(TUNED["training.weight_decay"])


def recipes(base: Mapping[str, Any], rates: Mapping[Method, float]) -> tuple[Row, ...]:
    """All recipes as rows of a plan, each with its learning rate given: nothing is tuned here.

    A recipe that is a row of table 1 too is the same training there and here, in a folder of the same name.

    Args:
        base: Of the scale.
        rates: Learning rate of each method. Recipes that change VI-SimSiam have its rate, but the division by
            κ/(1 + c), under which the gradient is SimSiam's, has SimSiam's; the printed recipe has the printed one.
    """
    dim, size = int(base["method.dim"]), int(base.get("views.size", 128))
    known = {row.key: row for row in table1_rows(dim)}
    # A standard deviation of 1/64 to 5/64 of the side: the degradations that judge go up to 8/64.
    fine = {
        "views.blur_probability": DEFECT_PROBABILITY,
        "views.blur_sigma": [size / 64, 5 * size / 64],
        "views.downscale_probability": DEFECT_PROBABILITY,
    }
    changed: dict[str, Mapping[str, Any]] = {
        "softplus": {"method.concentration_map": "softplus"},
        "per_image": {"objective.nats_per": "image"},
        "beta_one": {"objective.weight": "concentration", "objective.beta": 1.0},
        "slow_head": {"training.concentration_rate": 0.1},
        "fast_head": {"training.concentration_rate": 10.0},
        "decayed_head": {"training.concentration_decay": _DECAY},
        "defects_without_pull": {**known["without_pull"].changes, **known["defects"].changes},
        "fine_defects": fine,
        "all_defects": {**known["defects"].changes, **fine},
    }
    made = []
    for key, label in KEYS.items():
        rate: Method = "simsiam" if key.endswith("without_pull") else "vi_simsiam"
        row = known.get(key) or Row(key, label, "vi_simsiam", rate, {**TUNED, **changed[key]})
        changes = dict(row.changes)
        if row.rate is not None:
            changes["training.learning_rate"] = rates[row.rate]
        made.append(replace(row, label=label, rate=None, changes=changes))
    return tuple(made)


assert REFERENCE in KEYS  # noqa: S101  # differences of accuracy are to it


LEGEND = (
    "SimSiam predicts no κ: its u is the cosine of two random views, taken negatively. The recipes below VI-SimSiam "
    "are its own with one thing changed. No bound: κ = softplus(raw) instead of (d − 1)·k with k < 99, in nats per "
    "dimension; literally as printed is that in nats for an image, at the printed rate of 1e-3, without clipping. "
    "Weighted: each term times the stop-gradient of (κ/(d − 1))^(−β) or of (1 + c)/κ. Head: κ's own row of the "
    "predictor's last layer. Noise and covers: each in a quarter of the views, independently; blur and down-scaling "
    "likewise, by up to 5/64 of the side and a factor of 4; all four together."
)
"""What the labels mean."""
