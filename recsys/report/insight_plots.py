"""Plots of what features are worth to a run, and of the columns that change between sets of rows."""

from pathlib import Path

from recsys.evaluation.drift import Drift
from recsys.evaluation.importance import Importances
from recsys.evaluation.shown import TITLES
from recsys.report.plots import DARK, GREEN, GREY, RED, color_of, drawing, label_values, plain_label

_MAX_FEATURES, _MAX_COLUMNS = 30, 15


def plot_importance(importances: Importances, path: Path) -> None:
    """Draws the losses and their intervals: one panel for features, the most important first, and one for groups."""
    metric = importances.metric
    panels_of = {"features": importances.features[:_MAX_FEATURES], "groups": importances.groups}
    drawn = {title: listed for title, listed in panels_of.items() if listed}
    n_most = max(map(len, drawn.values()), default=1)
    with drawing(path, 5.2 * max(1, len(drawn)), 1.3 + 0.22 * n_most, n_columns=max(1, len(drawn))) as (figure, panels):
        for panel, (title, listed) in zip(panels, drawn.items(), strict=False):
            for y, one in enumerate(listed):
                loss = one.losses[metric]
                color = GREEN if loss.low > 0 else RED if loss.high < 0 else GREY
                panel.plot([loss.low, loss.high], [y, y], color=color, lw=2)
                panel.plot(loss.loss, y, "o", color=color, ms=5)
            panel.axvline(0, color=DARK, lw=0.8)
            panel.set_yticks(range(len(listed)), [plain_label(one.name) for one in listed])
            panel.set_ylim(n_most - 0.4, -0.6)
            panel.set_title(title)
            panel.grid(visible=False, axis="y")
            label_values(panel.xaxis, 4)
        figure.supxlabel(f"loss of {TITLES[metric]} without the feature, 95 % interval", fontsize=9)


def plot_drift(drift: Drift, path: Path) -> None:
    """Draws the ROC-AUC of each comparison with its interval, and the columns of the one with the largest."""
    largest = max(drift.comparisons, key=lambda one: one.roc_auc)
    columns = largest.columns[:_MAX_COLUMNS]
    height = 1.4 + 0.24 * max(len(drift.comparisons), len(columns))
    with drawing(path, 9.6, height, n_columns=2) as (_, (left, right)):
        for y, one in enumerate(drift.comparisons):
            color = RED if one.low > 0.5 else GREY
            left.plot([one.low, one.high], [y, y], color=color, lw=2)
            left.plot(one.roc_auc, y, "o", color=color, ms=5)
        left.axvline(0.5, color=DARK, lw=0.8)
        left.set_yticks(range(len(drift.comparisons)), [plain_label(one.name) for one in drift.comparisons])
        left.set_ylim(len(drift.comparisons) - 0.4, -0.6)
        left.set_title("ROC-AUC of telling them apart, 95 % interval")
        right.barh(range(len(columns)), [one.gain for one in columns], color=color_of(0), height=0.6)
        right.set_yticks(range(len(columns)), [plain_label(f"{one.name}, alone {one.roc_auc:.3f}") for one in columns])
        right.set_ylim(len(columns) - 0.4, -0.6)
        right.set_title(f"share of the gain, {plain_label(largest.name)}")
        for panel in (left, right):
            panel.grid(visible=False, axis="y")
            label_values(panel.xaxis, 4)
