"""Plots that compare runs, for the report of a plan."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve

from recsys.evaluation.comparison import Difference
from recsys.evaluation.logits import Logits
from recsys.evaluation.metrics import LOWER_IS_BETTER
from recsys.report.plots import plain_label

matplotlib.use("Agg")  # files only, no window

_DPI = 130
_COLORS = ("#3566b8", "#d1792c", "#3c8d5a", "#b23a48", "#7a5ba8", "#7c6a5c", "#c2649c", "#5f6b78", "#a89a2b", "#2f9bb3")
_N_CURVE_POINTS = 400


def color_of(index: int) -> str:
    """The color of the run with this index; the same in every plot."""
    return _COLORS[index % len(_COLORS)]


def plot_differences(
    runs: Mapping[str, Mapping[str, Difference]], metrics: Sequence[str], reference: str, path: Path
) -> None:
    """Draws each run's difference to a reference with its interval, one panel per metric."""
    names = list(runs)[::-1]
    figure = Figure(figsize=(3.4 * len(metrics), 1.1 + 0.36 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        for y, name in enumerate(names):
            d, is_low = runs[name][metric], metric in LOWER_IS_BETTER
            low, high = (-d.high, -d.low) if is_low else (d.low, d.high)
            color = "#14733f" if low > 0 else "#a8261c" if high < 0 else "#5f6b78"
            panel.plot([d.low, d.high], [y, y], color=color, lw=2)
            panel.plot(d.difference, y, "o", color=color, ms=6)
        panel.axvline(0, color="#1c2430", lw=0.8)
        direction = " (lower is better)" if metric in LOWER_IS_BETTER else ""
        panel.set_xlabel(f"{metric}, difference to {plain_label(reference)}{direction}")
        panel.tick_params(axis="x", labelrotation=30)
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(names)), [plain_label(name) for name in names])
    panels[0].set_ylim(-0.6, len(names) - 0.4)
    figure.savefig(path, dpi=_DPI)


def plot_learning_curves(runs: Mapping[str, Sequence[Sequence[float]]], ylabel: str, path: Path) -> None:
    """Draws the metric that early stopping monitors, by epoch: one panel per run, one line per fit."""
    n_columns = min(3, len(runs))
    n_rows = -(-len(runs) // n_columns)
    figure = Figure(figsize=(3.4 * n_columns, 2.4 * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).flatten()
    for index, (name, fits) in enumerate(runs.items()):
        panel = panels[index]
        for values in fits:
            panel.plot(np.arange(1, len(values) + 1), values, "o-", ms=3, lw=1, color=color_of(index), alpha=0.8)
        panel.set_title(plain_label(name), fontsize=10)
        panel.set_xlabel("epoch")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
    for panel in panels[len(runs) :]:
        panel.axis("off")
    for panel in panels[::n_columns]:
        panel.set_ylabel(ylabel)
    figure.savefig(path, dpi=_DPI)


def plot_precision_recall(label: np.ndarray, runs: Mapping[str, np.ndarray], path: Path) -> None:
    """Draws precision against recall.

    Args:
        label: [n] 0 / 1.
        runs: [n] logits by run name.
        path: the PNG to write.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    panel = figure.subplots()
    for index, (name, logit) in enumerate(runs.items()):
        precision, recall, _ = precision_recall_curve(label, logit)
        # the lowest recalls depend on a few rows; more points than pixels are not visible
        recall_grid = np.linspace(0.01, 1, _N_CURVE_POINTS)
        panel.plot(
            recall_grid,
            np.interp(recall_grid, recall[::-1], precision[::-1]),
            label=plain_label(name),
            **_line(index, len(runs)),
        )
    panel.axhline(float(label.mean()), color="#1c2430", lw=0.8, ls=":", label="base rate")
    panel.set(xscale="log", xlabel="recall", ylabel="precision")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    figure.savefig(path, dpi=_DPI)


def plot_distributions(runs: Mapping[str, Logits], path: Path) -> None:
    """Draws the distributions of predictions, at both scales.

    Args:
        runs: logits by run name.
        path: the PNG to write.
    """
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, (name, logits) in enumerate(runs.items()):
        p = logits.p
        style = _line(index, len(runs))
        _draw_density(left, np.log10(np.maximum(p, 1e-6)), np.linspace(-4, 0, 120), name, style)
        _draw_density(right, logits.q, np.linspace(0, 1, 100), name, style)
    ticks = [-4, -3, -2, -1, 0]
    left.set_xticks(ticks, [f"{10.0**t:g}" for t in ticks])
    left.set(xlabel="p, the click rate (log scale)", ylabel="density")
    right.set(xlabel="q, the class-balanced posterior")
    left.legend(fontsize=8)
    for panel in (left, right):
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=_DPI)


def _line(index: int, n: int) -> dict[str, Any]:
    """The line style of a run; the last run is the main one and is emphasized."""
    is_last = index == n - 1
    return {"color": "#1c2430" if is_last else color_of(index), "lw": 2.2 if is_last else 1.3}


def _draw_density(panel: Axes, values: np.ndarray, edges: np.ndarray, name: str, style: dict[str, Any]) -> None:
    density, _ = np.histogram(values, edges, density=True)
    panel.plot((edges[:-1] + edges[1:]) / 2, density, label=plain_label(name), **style)


def plot_bars(groups: Mapping[str, Mapping[str, float]], ylabel: str, path: Path, base: float | None = None) -> None:
    """Draws grouped bars; a run's bar has the same color in every group.

    Args:
        groups: value by group and run.
        ylabel: label of the value axis.
        path: the PNG to write.
        base: a value to mark with a horizontal line.
    """
    names = list(dict.fromkeys(name for values in groups.values() for name in values))
    figure = Figure(figsize=(max(5.0, 1.2 + 0.16 * len(groups) * (len(names) + 1.5)), 3.6), layout="constrained")
    panel = figure.subplots()
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        x = [k - 0.4 + width * (index + 0.5) for k, values in enumerate(groups.values()) if name in values]
        heights = [values[name] for values in groups.values() if name in values]
        panel.bar(x, heights, width * 0.9, color=color_of(index), label=plain_label(name))
    if base is not None:
        panel.axhline(base, color="#1c2430", lw=0.8, ls=":")
    panel.set_xticks(range(len(groups)), [plain_label(name) for name in groups])
    panel.set_ylabel(ylabel)
    panel.grid(axis="y", alpha=0.3)
    if len(names) > 1:
        panel.legend(fontsize=8, ncols=min(4, len(names)))
        low, high = panel.get_ylim()
        panel.set_ylim(low, high + 0.25 * (high - low))
    figure.savefig(path, dpi=_DPI)


def plot_horizontal_bars(panels: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Draws the values of runs as horizontal bars, one panel per quantity."""
    names = list(dict.fromkeys(name for values in panels.values() for name in values))[::-1]
    figure = Figure(figsize=(3.6 * len(panels) + 1, 0.9 + 0.32 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, (quantity, values) in zip(axes, panels.items(), strict=True):
        lengths = [values.get(name, 0.0) for name in names]
        bars = panel.barh(range(len(names)), lengths, color="#3566b8")
        panel.bar_label(bars, [f"{length:,.3g}" if length else "" for length in lengths], padding=3, fontsize=8)
        panel.set_xlabel(quantity)
        panel.margins(x=0.18)
        panel.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(names)), [plain_label(name) for name in names])
    figure.savefig(path, dpi=_DPI)
