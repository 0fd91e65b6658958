"""Plots of a retrieval run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from recsys.report.plots import plain_label
from retrieval.evaluation.ranks import KS

matplotlib.use("Agg")  # writes files, opens no window

_DPI = 150
_COLORS = {
    "two_tower": "tab:blue",
    "reranked": "tab:purple",
    "popularity": "tab:orange",
    "random": "tab:grey",
    "popular_positives": "tab:olive",
    "recent": "tab:red",
    "transitions": "tab:brown",
    "item_knn": "tab:cyan",
    "reranked_jointly": "tab:pink",
    "truth": "tab:green",
}


def plot_recall(by_panel: Mapping[str, Mapping[str, Mapping[str, float]]], path: Path) -> None:
    """Plots recall@K over K, one panel per set of requests.

    Args:
        by_panel: metrics by panel title and ranking.
        path: the PNG file to write.
    """
    figure = Figure(figsize=(5 * len(by_panel), 4), layout="constrained")
    for axes, (title, rankings) in zip(
        figure.subplots(1, len(by_panel), squeeze=False)[0], by_panel.items(), strict=True
    ):
        for name, metrics in rankings.items():
            ks = [k for k in KS if f"recall@{k}" in metrics]
            axes.plot(ks, [metrics[f"recall@{k}"] for k in ks], "o-", ms=4, label=name, color=_COLORS.get(name))
        axes.set(xscale="log", xlabel="K", ylabel="recall@K", title=title, ylim=(0, None))
        shown = [k for k in KS if any(f"recall@{k}" in metrics for metrics in rankings.values())]
        axes.set_xticks(shown, [str(k) for k in shown])
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=_DPI)


def plot_segments(by_label: Mapping[str, Mapping[str, Mapping[str, float]]], metric: str, path: Path) -> None:
    """Plots a metric of the towers and of the popularity baseline by segment.

    Args:
        by_label: metrics by segment label and ranking.
        metric: name of the metric.
        path: the PNG file to write.
    """
    segments = list(by_label.items())
    figure = Figure(figsize=(6, 1.2 + 0.32 * len(segments)), layout="constrained")
    axes = figure.subplots()
    for shift, name in ((-0.2, "two_tower"), (0.2, "popularity")):
        values = [metrics[name].get(metric, 0.0) for _, metrics in segments]
        axes.barh([y + shift for y in range(len(segments))], values, 0.38, label=name, color=_COLORS[name])
    names = [plain_label(label) for label, _ in segments]
    axes.set_yticks(range(len(segments)), names)
    axes.invert_yaxis()
    axes.set_xlabel(metric)
    axes.grid(alpha=0.3, axis="x")
    axes.legend()
    figure.savefig(path, dpi=_DPI)


def plot_index(points: Sequence[tuple[str, float, float]], path: Path) -> None:
    """Plots queries per second against recall, one line per index.

    Args:
        points: name of the index, recall against exact search and queries per second.
        path: the PNG file to write.
    """
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(name for name, _, _ in points):
        line = sorted((recall, speed) for point_name, recall, speed in points if point_name == name)
        axes.plot([recall for recall, _ in line], [speed for _, speed in line], "o-", ms=4, label=name)
    axes.set(yscale="log", xlabel="recall@100 against exact search", ylabel="queries per second")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=_DPI)
