"""Charts as SVG files, the same bytes for the same figures."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bench.finding import Chart

SIZE_INCHES = (7.2, 4.0)
mpl.rcParams["svg.hashsalt"] = "bench"
mpl.rcParams["svg.fonttype"] = "none"


def draw_all(charts: Sequence[Chart], folder: Path) -> None:
    """Write each chart to a file of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for chart in charts:
        draw(chart, folder / f"{chart.name}.svg")


def draw(chart: Chart, path: Path) -> None:
    """Write one chart; axes that are not logarithmic begin at nothing."""
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.add_subplot()
    for curve in chart.curves:
        axes.plot(curve.x, curve.y, marker="o", label=curve.name)
    axes.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label)
    if chart.x_log:
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)
    if chart.y_log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axes.grid(visible=True, alpha=0.3)
    if len(chart.curves) > 1:
        axes.legend()
    figure.savefig(path, format="svg", metadata={"Date": None})
