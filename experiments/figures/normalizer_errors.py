"""How exact the von Mises–Fisher log normaliser is, beside SciPy's."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from mpmath import isfinite
from scipy.stats import vonmises_fisher

from experiments.benchmarks.references import von_mises_fisher_reference
from experiments.figures.style import HIGH, LOW, MUTED, styled
from ssl_as_inference.special import von_mises_fisher_log_normalizer

_KAPPA = np.logspace(-6, 6, 49)
_FLOOR, _TOP = 1e-18, 1e-13  # smaller errors are drawn at the floor, values that are not finite at the top


@styled
def normalizer_errors_figure(dims: tuple[int, ...] = (3, 128, 2048)) -> Figure:
    """Error of log C(κ) in float64 against 60 digits by mpmath, relative to max(1, |log C|), over κ.

    Args:
        dims: A panel for each dimension d.
    """
    figure = Figure(figsize=(3.2 * len(dims), 2.9), layout="constrained")
    panels = figure.subplots(1, len(dims), sharey=True, squeeze=False)[0]
    for axes, dim in zip(panels, dims, strict=True):
        exact = [von_mises_fisher_reference(dim, float(kappa)).log_normalizer for kappa in _KAPPA]
        with np.errstate(all="ignore"):
            scipy = [float(vonmises_fisher.logpdf(np.eye(2, dim)[1], np.eye(1, dim)[0], kappa)) for kappa in _KAPPA]
        ours = von_mises_fisher_log_normalizer(dim, torch.from_numpy(_KAPPA)).tolist()
        for name, values, mark, colour in (("SciPy", scipy, "x", LOW), ("ssl-as-inference", ours, "o", HIGH)):
            errors = [abs(value - truth) / max(1, abs(truth)) for value, truth in zip(values, exact, strict=True)]
            shown = [max(float(error), _FLOOR) if isfinite(error) else _TOP for error in errors]
            axes.loglog(_KAPPA, shown, mark, color=colour, markersize=4, label=name)
        axes.axhline(np.finfo(float).eps, color=MUTED, linewidth=0.8, linestyle="dashed")
        axes.set(title=f"$d={dim}$", xlabel=r"concentration $\kappa$", ylim=(_FLOOR / 2, 2 * _TOP))
        axes.set_xticks([1e-6, 1e-3, 1, 1e3, 1e6])
    panels[0].set_ylabel(r"error of $\log C(\kappa)$")
    panels[0].set_yticks([_FLOOR, 1e-16, 1e-14, _TOP], ["≤ 1e−18", "1e−16", "1e−14", "not finite"])
    panels[0].minorticks_off()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure
