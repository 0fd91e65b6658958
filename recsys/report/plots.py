"""Plots of sweeps and of calibration."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.stats import binomtest

from recsys.evaluation.metrics import N_ECE_BINS, effective_size

matplotlib.use("Agg")  # files only, no window

_DPI = 150


def plain_label(text: str) -> str:
    """Returns a name from a user's data or command as a label: matplotlib reads text between two `$` as a formula."""
    return text.replace("$", r"\$")


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
    is_grid = len(keys) == 2 and len(trials) == len(axes_values[0]) * len(axes_values[1])
    figure = Figure(figsize=(6, 4.5) if is_grid else (4 * len(keys), 3.6), layout="constrained")
    if is_grid:
        _draw_heat_map(figure, trials, keys, axes_values, metric)
    else:
        panels = figure.subplots(1, len(keys), squeeze=False)[0]
        for panel, key, values in zip(panels, keys, axes_values, strict=True):
            points = [(point[key], value) for point, value in trials]
            is_numeric = all(_numbers_first(text)[0] == 0 for text, _ in points)
            x = [float(text) if is_numeric else values.index(text) for text, _ in points]
            panel.plot(x, [value for _, value in points], "o", color="tab:blue", alpha=0.7)
            if is_numeric and min(x) > 0 and max(x) / min(x) >= 20:
                panel.set_xscale("log")
            if not is_numeric:
                panel.set_xticks(range(len(values)), [plain_label(value) for value in values])
            panel.set_xlabel(key)
            panel.set_ylabel(metric)
            panel.grid(alpha=0.3)
    figure.savefig(path, dpi=_DPI)


def plot_reliability(
    predictions: Mapping[str, np.ndarray], label: np.ndarray, path: Path, weight: np.ndarray | None = None
) -> None:
    """Draws observed against predicted click rates, in bins of equal numbers of rows.

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
    figure = Figure(figsize=(5, 5), layout="constrained")
    panel = figure.subplots()
    extremes = []
    for (name, p), marker in zip(predictions.items(), "osD^v", strict=False):
        bins = np.array_split(np.argsort(p, kind="stable"), min(N_ECE_BINS, len(p)))
        predicted, observed = (
            np.array([np.average(values[rows], weights=weight[rows]) for rows in bins]) for values in (p, label)
        )
        sizes = [effective_size(weight[rows]) for rows in bins]
        intervals = [
            binomtest(round(rate * n), max(1, round(n))).proportion_ci(method="wilson")
            for rate, n in zip(observed, sizes, strict=True)
        ]
        errors = np.abs([[low, high] - rate for (low, high), rate in zip(intervals, observed, strict=True)]).T
        panel.errorbar(predicted, observed, errors, fmt=marker, ms=4, lw=1, alpha=0.8, label=plain_label(name))
        extremes += [*predicted[[0, -1]], *observed[observed > 0][[0, -1]]]
    low, high = 0.7 * min(extremes), 1.4 * max(extremes)
    panel.plot([low, high], [low, high], color="grey", lw=1, zorder=0)
    panel.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    panel.set_xlabel("predicted click rate")
    panel.set_ylabel("observed click rate, 95 % interval")
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    panel.grid(alpha=0.3)
    panel.legend()
    figure.savefig(path, dpi=_DPI)


def _draw_heat_map(
    figure: Figure,
    trials: Sequence[tuple[dict[str, str], float]],
    keys: Sequence[str],
    axes_values: Sequence[Sequence[str]],
    metric: str,
) -> None:
    grid = np.full([len(values) for values in axes_values], np.nan)
    for point, value in trials:
        grid[tuple(values.index(point[key]) for key, values in zip(keys, axes_values, strict=True))] = value
    panel = figure.subplots()
    image = panel.imshow(grid, cmap="viridis", aspect="auto")
    middle = (np.nanmin(grid) + np.nanmax(grid)) / 2
    for (row, column), value in np.ndenumerate(grid):
        color = "white" if value < middle else "black"
        panel.text(column, row, f"{value:.4f}", ha="center", va="center", color=color)
    rows, columns = ([plain_label(value) for value in values] for values in axes_values)
    panel.set_yticks(range(len(rows)), rows)
    panel.set_xticks(range(len(columns)), columns)
    panel.set_ylabel(keys[0])
    panel.set_xlabel(keys[1])
    figure.colorbar(image, label=metric)


def _numbers_first(text: str) -> tuple[int, float, str]:
    """Sort key: numbers in numeric order, then texts in alphabetical order."""
    try:
        return (0, float(text), "")
    except ValueError:
        return (1, 0.0, text)
