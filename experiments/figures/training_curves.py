"""How a training went: every logged quantity over the epochs, the methods in one plot."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from experiments.figures.style import PALETTE, styled

Series = Sequence[tuple[int, float]]
Histories = Mapping[str, Mapping[str, Series]]

_QUANTILE = re.compile(r"(?P<quantity>.+)/q(?P<percent>\d+)")
_SEPARATE = "loss"
_COLUMNS = 3
_DECADES = 30.0  # ratio of largest to smallest value from which quantiles get a logarithmic axis


@styled
def training_curves_figure(histories: Histories) -> Figure:
    """Draw one small plot for each quantity, with a line for each method that has it; of the loss one for each method.

    The losses' values do not compare: a negative log-likelihood under different distributions has a different zero and
    scale.

    A series called `quantity/q05` is a quantile, here the 5 % one, of `quantity`. The quantiles of a quantity share its
    plot, whose title names them: the middle one is a line, and pairs are bands around it. The plot has a logarithmic
    scale when they span more than a factor of 30.

    Args:
        histories: Method → series → `(epoch, value)` pairs, in order.

    Raises:
        ValueError: If there is no method, a method has no series, or a series is empty.

    Example:
        >>> figure = training_curves_figure({"SimSiam": {"loss": [(0, -1.0), (1, -2.0)], "kNN": [(0, 0.1), (1, 0.8)]}})
        >>> [axes.get_title(loc="left") for axes in figure.axes]
        ['loss, SimSiam', 'kNN']
    """
    _check(histories)
    colours = {method: PALETTE[i % len(PALETTE)] for i, method in enumerate(histories)}
    panels = _panels(histories)
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.3 * columns, 0.5 + 2.5 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for spare in list(grid.flat)[len(panels) :]:
        spare.remove()
    for index, (axes, (quantity, methods)) in enumerate(zip(grid.flat, panels, strict=False)):
        for method in methods:
            _draw(axes, quantity, histories[method], colours[method])
        axes.set_title(_title(quantity, histories[methods[0]], methods[0] if quantity == _SEPARATE else None))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        if index + columns >= len(panels):
            axes.set_xlabel("epoch")
    if len(histories) > 1:
        keys = [Line2D([], [], color=colour, label=method) for method, colour in colours.items()]
        figure.legend(handles=keys, loc="outside upper center", ncols=len(keys))
    return figure


def _panels(histories: Histories) -> list[tuple[str, list[str]]]:
    """Which methods share which plot, in the order in which the quantities first appear."""
    methods: dict[str, list[str]] = {}
    for method, history in histories.items():
        for name in history:
            having = methods.setdefault(_quantity(name), [])
            if method not in having:
                having.append(method)
    panels: list[tuple[str, list[str]]] = []
    for quantity, having in methods.items():
        panels += [(quantity, [method]) for method in having] if quantity == _SEPARATE else [(quantity, having)]
    return panels


def _title(quantity: str, history: Mapping[str, Series], only: str | None) -> str:
    title = quantity if only is None else f"{quantity}, {only}"
    percents = sorted(_quantiles(quantity, history))
    return title if not percents else f"{title} ({', '.join(map(str, percents))} %)"


def _quantiles(quantity: str, history: Mapping[str, Series]) -> dict[int, Series]:
    return {
        int(match["percent"]): series
        for name, series in history.items()
        if (match := _QUANTILE.fullmatch(name)) and match["quantity"] == quantity
    }


def _quantity(name: str) -> str:
    quantile = _QUANTILE.fullmatch(name)
    return quantile["quantity"] if quantile else name


def _draw(axes: Axes, quantity: str, history: Mapping[str, Series], colour: str) -> None:
    if quantity in history:
        epochs, values = zip(*history[quantity], strict=True)
        axes.plot(epochs, values, color=colour, marker="o" if len(epochs) == 1 else None)
    quantiles = _quantiles(quantity, history)
    percents = sorted(quantiles)
    while percents:
        low, high = percents[0], percents[-1]
        percents = percents[1:-1]
        epochs, lower = zip(*quantiles[low], strict=True)
        if low == high:
            axes.plot(epochs, lower, color=colour)
            break
        _, upper = zip(*quantiles[high], strict=True)
        axes.fill_between(epochs, lower, upper, color=colour, alpha=0.22, linewidth=0)
    if quantiles:
        shown = [value for series in quantiles.values() for _, value in series]
        if min(shown) > 0 and max(shown) > _DECADES * min(shown):
            axes.set_yscale("log")


def _check(histories: Histories) -> None:
    if not histories:
        raise ValueError("histories must hold at least one method, got none")
    for method, history in histories.items():
        if not history:
            raise ValueError(f"histories[{method!r}] must hold at least one series, got none")
        for name, series in history.items():
            if not series:
                raise ValueError(f"histories[{method!r}][{name!r}] must hold at least one (epoch, value), got none")
