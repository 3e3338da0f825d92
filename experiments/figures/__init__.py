"""The figures, one a file: each function turns numbers into a `Figure` and leaves Matplotlib's settings alone."""

from experiments.figures.concentration import concentration_figure as concentration_figure
from experiments.figures.contact_sheet import Tile as Tile
from experiments.figures.contact_sheet import contact_sheet_figure as contact_sheet_figure
from experiments.figures.data_flow import data_flow_figure as data_flow_figure
from experiments.figures.loss_surface import loss_surface_figure as loss_surface_figure
from experiments.figures.style import save_figure as save_figure
from experiments.figures.training_curves import training_curves_figure as training_curves_figure
from experiments.figures.uncertainty import UncertaintyCurves as UncertaintyCurves
from experiments.figures.uncertainty import uncertainty_figure as uncertainty_figure
