"""The style of all plots, and the plots of sweeps and of calibration."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from PIL import Image
from scipy.stats import binomtest

from recsys.evaluation.metrics import N_ECE_BINS, effective_size
from recsys.evaluation.shown import format_metric

COLORS = ("#3566b8", "#d1792c", "#3c8d5a", "#b23a48", "#7a5ba8", "#7c6a5c", "#c2649c", "#5f6b78", "#a89a2b", "#2f9bb3")
DARK, GREY, GREEN, RED = "#1c2430", "#5f6b78", "#14733f", "#a8261c"
_STYLE: dict[Any, Any] = {
    "savefig.dpi": 140,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.7,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 4,
}
_MAX_LABEL, _MAX_VALUE_TICKS = 32, 6
_N_COLORS = 128
_CHARACTER_INCHES = 0.075
"""Width of a character of a label."""


@contextmanager
def drawing(
    path: Path, width: float, height: float, n_rows: int = 1, n_columns: int = 1, *, share_y: bool = False
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yields a figure and its panels, row by row, in the style of all plots, and writes the figure at the end.

    Args:
        path: the PNG to write.
        width: of the figure, in inches.
        height: of the figure, in inches.
        n_rows: rows of panels.
        n_columns: columns of panels.
        share_y: whether the panels have one y axis.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        panels = figure.subplots(n_rows, n_columns, sharey=share_y, squeeze=False)
        yield figure, list(panels.flatten())
        drawn = BytesIO()
        figure.savefig(drawn)
        # plots have few colors: a palette makes them, and the report that holds them, a third of the size
        Image.open(drawn).convert("RGB").quantize(_N_COLORS).save(path, optimize=True)


def color_of(index: int) -> str:
    """The color of the run with this index; the same in every plot."""
    return COLORS[index % len(COLORS)]


def value_text(value: float) -> str:
    """A value with three significant digits, or all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def label_values(axis: Axis, n_labels: int) -> None:
    """Labels about this number of round values of an axis, without a factor in its corner."""
    axis.set_major_locator(MaxNLocator(n_labels))
    axis.set_major_formatter(FuncFormatter(lambda value, _: value_text(value)))


def plain_label(text: str) -> str:
    """Returns a name from a user's data or command as a label.

    Matplotlib reads text between two `$` as a formula. The middle of a long name is left out.
    """
    if len(text) > _MAX_LABEL:
        half = _MAX_LABEL // 2
        text = f"{text[: half - 1]}…{text[-half:]}"
    return text.replace("$", r"\$")


def label_positions(panel: Axes, names: Sequence[str], width: float) -> None:
    """Labels the positions 0, 1, ... of the x axis with names; slanted if they do not fit beside each other.

    Args:
        panel: the panel.
        names: the names, one for each position.
        width: width of the panel in inches.
    """
    labels = [plain_label(name) for name in names]
    are_wide = max(map(len, labels), default=0) * _CHARACTER_INCHES > 0.9 * width / max(1, len(labels))
    angle: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if are_wide else {}
    panel.set_xticks(range(len(labels)), labels, **angle)


def add_legend(figure: Figure, panel: Axes) -> None:
    """Adds the legend of a panel above all panels, where it hides no data; none if the panel has one name."""
    handles, labels = panel.get_legend_handles_labels()
    if len(labels) > 1:
        entry = 0.45 + max(map(len, labels)) * _CHARACTER_INCHES
        n_columns = max(1, min(len(labels), int(figure.get_figwidth() / entry)))
        figure.legend(handles, labels, loc="outside upper left", ncols=n_columns)


def plot_sweep(trials: Sequence[tuple[dict[str, str], float]], metric: str, path: Path) -> None:
    """Draws a sweep: a heat map for a full grid of two settings, otherwise one panel per setting.

    Args:
        trials: settings and metric value of each trial.
        metric: name of the metric.
        path: the PNG to write.
    """
    if not trials:
        return
    keys = list(trials[0][0])
    axes_values = [sorted({point[key] for point, _ in trials}, key=_numbers_first) for key in keys]
    if len(keys) == 2 and len(trials) == len(axes_values[0]) * len(axes_values[1]):
        _draw_heat_map(trials, keys, axes_values, metric, path)
        return
    n_columns = min(3, len(keys))
    n_rows, width = -(-len(keys) // n_columns), 3.8
    with drawing(path, width * n_columns, 3.2 * n_rows, n_rows, n_columns, share_y=True) as (_, panels):
        for panel, key, values in zip(panels, keys, axes_values, strict=False):
            points = [(point[key], value) for point, value in trials]
            is_numeric = all(_numbers_first(text)[0] == 0 for text, _ in points)
            x = [float(text) if is_numeric else values.index(text) for text, _ in points]
            panel.plot(x, [value for _, value in points], "o", alpha=0.7)
            if not is_numeric:
                label_positions(panel, values, width - 1)
            else:
                if min(x) > 0 and max(x) / min(x) >= 20:
                    panel.set_xscale("log")
                elif len(values) > _MAX_VALUE_TICKS:
                    label_values(panel.xaxis, 5)
                if len(values) <= _MAX_VALUE_TICKS:
                    panel.set_xticks([float(value) for value in values], values)
                    panel.set_xticks([], minor=True)
            panel.set_xlabel(plain_label(key))
        for panel in panels[len(keys) :]:
            panel.axis("off")
        for panel in panels[::n_columns]:
            panel.set_ylabel(metric)


def _draw_heat_map(
    trials: Sequence[tuple[dict[str, str], float]],
    keys: Sequence[str],
    axes_values: Sequence[Sequence[str]],
    metric: str,
    path: Path,
) -> None:
    grid = np.full([len(values) for values in axes_values], np.nan)
    for point, value in trials:
        grid[tuple(values.index(point[key]) for key, values in zip(keys, axes_values, strict=True))] = value
    width, height = max(3.2, 0.62 * grid.shape[1]), max(2.4, 0.36 * grid.shape[0])
    with drawing(path, width + 2.6, height + 1.4) as (figure, (panel,)):
        image = panel.imshow(grid, cmap="viridis", aspect="auto")
        middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
        for (row, column), value in np.ndenumerate(grid):
            color = "white" if value < middle else "black"
            panel.text(column, row, format_metric(value), ha="center", va="center", color=color, fontsize=8)
        panel.set_yticks(range(grid.shape[0]), [plain_label(value) for value in axes_values[0]])
        label_positions(panel, axes_values[1], width)
        panel.set_ylabel(plain_label(keys[0]))
        panel.set_xlabel(plain_label(keys[1]))
        panel.grid(visible=False)
        panel.tick_params(length=0)
        figure.colorbar(image, label=metric)


def plot_reliability(
    predictions: Mapping[str, np.ndarray], label: np.ndarray, path: Path, weight: np.ndarray | None = None
) -> None:
    """Draws observed against predicted click rates, in bins of equal numbers of rows: one panel for each method.

    Args:
        predictions: [n] probabilities by name.
        label: [n] 0 / 1.
        path: the PNG to write.
        weight: [n] weights of the rows; None if they have none.
    """
    weight = np.ones(len(label)) if weight is None else weight
    is_counted = weight > 0
    predictions = {name: p[is_counted] for name, p in predictions.items()}
    label, weight = label[is_counted], weight[is_counted]
    n_columns = min(2, len(predictions)) if len(predictions) <= 4 else 3
    n_rows = -(-len(predictions) // n_columns)
    drawn: list[np.ndarray] = []
    with drawing(path, 3.7 * n_columns, 3.6 * n_rows, n_rows, n_columns) as (_, panels):
        for index, (panel, (name, p)) in enumerate(zip(panels, predictions.items(), strict=False)):
            bins = np.array_split(np.argsort(p, kind="stable"), min(N_ECE_BINS, len(p)))
            predicted, observed = (
                np.array([np.average(values[rows], weights=weight[rows]) for rows in bins]) for values in (p, label)
            )
            sizes = [max(1, round(effective_size(weight[rows]))) for rows in bins]
            intervals = [
                binomtest(round(rate * size), size).proportion_ci(method="wilson")
                for rate, size in zip(observed, sizes, strict=True)
            ]
            errors = np.abs([[low, high] - rate for (low, high), rate in zip(intervals, observed, strict=True)]).T
            panel.errorbar(predicted, observed, errors, fmt="o", lw=1, color=color_of(index))
            panel.set_title(f"{plain_label(name)}\n{len(p):,} rows, {int(label.sum()):,} clicks")
            drawn += [predicted, observed]
        positive = np.concatenate(drawn)
        positive = positive[positive > 0]
        low, high = 0.7 * positive.min(), 1.4 * positive.max()
        for panel in panels[: len(predictions)]:
            panel.plot([low, high], [low, high], color=GREY, lw=1, zorder=0)
            panel.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), box_aspect=1)
            for axis in (panel.xaxis, panel.yaxis):
                _label_rates(axis, low, high)
        for panel in panels[len(predictions) :]:
            panel.axis("off")
        for panel in panels[::n_columns]:
            panel.set_ylabel("observed click rate, 95 % interval")
        for panel in panels[max(0, len(predictions) - n_columns) : len(predictions)]:
            panel.set_xlabel("predicted click rate")


def _label_rates(axis: Axis, low: float, high: float) -> None:
    """Labels a logarithmic axis with a handful of rates."""
    decades = np.log10(high / low)
    axis.set_major_locator(
        MaxNLocator(4) if decades < 1 else LogLocator(subs=(1, 2, 5) if decades < 2 else (1,), numticks=5)
    )
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _numbers_first(text: str) -> tuple[int, float, str]:
    """Sort key: numbers in numeric order, then texts in alphabetical order."""
    try:
        return (0, float(text), "")
    except ValueError:
        return (1, 0.0, text)
