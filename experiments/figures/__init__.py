"""The figures, one a file: each function turns numbers into a `Figure` and leaves Matplotlib's settings alone."""

from experiments.figures.concentration import concentration_figure
from experiments.figures.contact_sheet import Tile, contact_sheet_figure
from experiments.figures.data_flow import data_flow_figure
from experiments.figures.loss_surface import loss_surface_figure
from experiments.figures.recovery import recovery_figure
from experiments.figures.style import save_figure
from experiments.figures.training_curves import training_curves_figure
from experiments.figures.uncertainty import UncertaintyCurves, uncertainty_figure

__all__ = [
    "Tile",
    "UncertaintyCurves",
    "concentration_figure",
    "contact_sheet_figure",
    "data_flow_figure",
    "loss_surface_figure",
    "recovery_figure",
    "save_figure",
    "training_curves_figure",
    "uncertainty_figure",
]
