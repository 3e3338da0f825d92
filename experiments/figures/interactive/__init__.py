"""Figures that one can turn: each function returns a Plotly figure with sliders, `write` makes one page of it."""

from experiments.figures.interactive.density_on_the_sphere import density_on_the_sphere
from experiments.figures.interactive.loss_over_cosine import loss_over_cosine
from experiments.figures.interactive.narrowing_guide import narrowing_guide
from experiments.figures.interactive.product_of_experts import product_of_experts
from experiments.figures.interactive.style import write

FIGURES = {
    figure.__name__: figure for figure in (density_on_the_sphere, loss_over_cosine, product_of_experts, narrowing_guide)
}
"""All of them, by name."""

__all__ = ["FIGURES", "density_on_the_sphere", "loss_over_cosine", "narrowing_guide", "product_of_experts", "write"]
