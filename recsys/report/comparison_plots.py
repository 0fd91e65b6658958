"""Plots that compare runs, for the report of a plan."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import precision_recall_curve

from recsys.evaluation.comparison import Difference
from recsys.evaluation.logits import Logits
from recsys.evaluation.metrics import LOWER_IS_BETTER, MetricName
from recsys.evaluation.shown import TITLES
from recsys.report.plots import (
    DARK,
    GREEN,
    GREY,
    RED,
    add_legend,
    color_of,
    drawing,
    label_positions,
    label_values,
    plain_label,
    value_text,
)

_N_CURVE_POINTS = 400
_LABEL_SHARE = 0.28
"""Share of a panel's width for the label at the end of a bar."""


def plot_differences(
    runs: Mapping[str, Mapping[str, Difference]], metrics: Sequence[MetricName], reference: str, path: Path
) -> None:
    """Draws each run's difference to a reference with its interval, one panel per metric."""
    names = list(runs)[::-1]
    height = 1.3 + 0.3 * len(names)
    with drawing(path, 2.6 * len(metrics) + 1.2, height, n_columns=len(metrics), share_y=True) as (figure, panels):
        for panel, metric in zip(panels, metrics, strict=True):
            for y, name in enumerate(names):
                d, is_low = runs[name][metric], metric in LOWER_IS_BETTER
                low, high = (-d.high, -d.low) if is_low else (d.low, d.high)
                color = GREEN if low > 0 else RED if high < 0 else GREY
                panel.plot([d.low, d.high], [y, y], color=color, lw=2)
                panel.plot(d.difference, y, "o", color=color, ms=6)
            panel.axvline(0, color=DARK, lw=0.8)
            panel.set_title(f"{TITLES[metric]}{', lower is better' if metric in LOWER_IS_BETTER else ''}")
            label_values(panel.xaxis, 4)
            panel.grid(visible=False, axis="y")
        panels[0].set_yticks(range(len(names)), [plain_label(name) for name in names])
        panels[0].set_ylim(-0.6, len(names) - 0.4)
        figure.supxlabel(f"difference to {plain_label(reference)}", fontsize=9)


def plot_learning_curves(runs: Mapping[str, Sequence[Sequence[float]]], ylabel: str, path: Path) -> None:
    """Draws the metric that early stopping monitors, by epoch: one panel per run, one line per fit."""
    n_columns = min(3, len(runs))
    n_rows = -(-len(runs) // n_columns)
    with drawing(path, 3.3 * n_columns + 0.4, 2.3 * n_rows, n_rows, n_columns) as (_, panels):
        for index, (name, fits) in enumerate(runs.items()):
            panel = panels[index]
            for values in fits:
                panel.plot(np.arange(1, len(values) + 1), values, "o-", ms=3, lw=1, color=color_of(index), alpha=0.8)
            panel.set_title(plain_label(name))
            panel.set_xlabel("epoch")
            panel.set_xlim(0.5, max(2, *map(len, fits)) + 0.5)
            panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            panel.yaxis.set_major_locator(MaxNLocator(5))
        for panel in panels[len(runs) :]:
            panel.axis("off")
        for panel in panels[::n_columns]:
            panel.set_ylabel(ylabel)


def plot_precision_recall(label: np.ndarray, runs: Mapping[str, np.ndarray], path: Path) -> None:
    """Draws precision against recall.

    Args:
        label: [n] 0 / 1.
        runs: [n] logits by run name.
        path: the PNG to write.
    """
    with drawing(path, 6.8, 4.4) as (figure, (panel,)):
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
        panel.axhline(float(label.mean()), color=DARK, lw=0.8, ls=":", label="base rate")
        ticks = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
        panel.set(xscale="log", xlabel="recall", ylabel="precision", ylim=(0, None))
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.set_xticks([], minor=True)
        add_legend(figure, panel)


def plot_distributions(runs: Mapping[str, Logits], path: Path) -> None:
    """Draws the distributions of predictions, at both scales.

    Args:
        runs: logits by run name.
        path: the PNG to write.
    """
    with drawing(path, 9.6, 3.8, n_columns=2) as (figure, (left, right)):
        log_p = {name: np.log10(np.maximum(logits.p, 1e-6)) for name, logits in runs.items()}
        lowest = min(-2, *(int(np.floor(np.quantile(values, 0.001))) for values in log_p.values()))
        for index, (name, logits) in enumerate(runs.items()):
            style = _line(index, len(runs))
            _draw_density(left, log_p[name], np.linspace(lowest, 0, 120), name, style)
            _draw_density(right, logits.q, np.linspace(0, 1, 100), name, style)
        ticks = range(lowest, 1)
        left.set_xticks(ticks, [f"{10.0**tick:g}" for tick in ticks])
        left.set(xlabel="p, the click rate (log scale)", ylabel="density", ylim=(0, None))
        right.set(xlabel="q, the class-balanced posterior", ylim=(0, None))
        add_legend(figure, left)


def _line(index: int, n: int) -> dict[str, Any]:
    """The line style of a run; the last run is the main one and is emphasized."""
    is_last = index == n - 1
    return {"color": DARK if is_last else color_of(index), "lw": 2.2 if is_last else 1.3}


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
    width = max(5.0, 1.2 + 0.16 * len(groups) * (len(names) + 1.5))
    with drawing(path, width, 3.8) as (figure, (panel,)):
        bar_width = min(0.25, 0.8 / len(names))
        left = -bar_width * (len(names) - 1) / 2
        for index, name in enumerate(names):
            x = [k + left + bar_width * index for k, values in enumerate(groups.values()) if name in values]
            heights = [values[name] for values in groups.values() if name in values]
            panel.bar(x, heights, bar_width * 0.9, color=color_of(index), label=plain_label(name))
        if base is not None:
            panel.axhline(base, color=DARK, lw=0.8, ls=":")
        label_positions(panel, list(groups), width - 1)
        panel.set_xlim(-0.6, len(groups) - 0.4)
        panel.set_ylabel(ylabel)
        panel.grid(visible=False, axis="x")
        add_legend(figure, panel)


def plot_horizontal_bars(panels: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Draws the values of runs as horizontal bars, one panel per quantity, with the value at the end of each bar."""
    names = list(dict.fromkeys(name for values in panels.values() for name in values))[::-1]
    height = 0.9 + 0.3 * len(names)
    with drawing(path, 3.0 * len(panels) + 1.2, height, n_columns=len(panels), share_y=True) as (_, axes):
        for panel, (quantity, values) in zip(axes, panels.items(), strict=True):
            bars = panel.barh(range(len(names)), [values.get(name, 0.0) for name in names], 0.7, color=color_of(0))
            texts = [value_text(values[name]) if name in values else "" for name in names]
            panel.bar_label(bars, texts, padding=3, fontsize=8)
            panel.set_xlim(*limits_with_labels(list(values.values())))
            panel.axvline(0, color=DARK, lw=0.8)
            panel.set_xlabel(quantity)
            label_values(panel.xaxis, 4)
            panel.grid(visible=False, axis="y")
        axes[0].set_yticks(range(len(names)), [plain_label(name) for name in names])
        axes[0].set_ylim(-0.6, len(names) - 0.4)


def limits_with_labels(values: Sequence[float]) -> tuple[float, float]:
    """The limits of an axis of bars from zero that leave room for the labels at their ends."""
    low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
    if low == high:
        return 0.0, 1.0
    left, right = (_LABEL_SHARE if has_labels else 0.0 for has_labels in (low < 0, high > 0 or 0 in values))
    whole = (high - low) / (1 - left - right)
    return low - left * whole, high + right * whole
