"""Plots of a retrieval run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from recsys.report.plots import COLORS, GREY, add_legend, drawing, plain_label
from retrieval.evaluation.ranks import KS

_COLORS = {
    "two_tower": COLORS[0],
    "reranked": COLORS[4],
    "popularity": COLORS[1],
    "random": GREY,
    "popular_positives": COLORS[8],
    "recent": COLORS[3],
    "recent_impressions": COLORS[7],
    "transitions": COLORS[5],
    "item_knn": COLORS[9],
    "reranked_jointly": COLORS[6],
    "truth": COLORS[2],
}


def plot_recall(by_panel: Mapping[str, Mapping[str, Mapping[str, float]]], path: Path) -> None:
    """Plots recall@K over K, one panel per set of requests.

    Args:
        by_panel: metrics by panel title and ranking.
        path: the PNG file to write.
    """
    with drawing(path, 4.4 * len(by_panel), 3.8, n_columns=len(by_panel)) as (figure, panels):
        for panel, (title, rankings) in zip(panels, by_panel.items(), strict=True):
            for name, metrics in rankings.items():
                ks = [k for k in KS if f"recall@{k}" in metrics]
                recalls = [metrics[f"recall@{k}"] for k in ks]
                panel.plot(ks, recalls, "o-", label=_label(name), color=_COLORS.get(name))
            panel.set(xscale="log", xlabel="K", ylabel="recall@K", title=title, ylim=(0, None))
            shown = [k for k in KS if any(f"recall@{k}" in metrics for metrics in rankings.values())]
            panel.set_xticks(shown, [str(k) for k in shown])
            panel.set_xticks([], minor=True)
        add_legend(figure, panels[0])


def plot_segments(by_label: Mapping[str, Mapping[str, Mapping[str, float]]], metric: str, path: Path) -> None:
    """Plots a metric of the towers and of the popularity baseline by segment.

    Args:
        by_label: metrics by segment label and ranking.
        metric: name of the metric.
        path: the PNG file to write.
    """
    segments = list(by_label.items())
    with drawing(path, 6, 1.4 + 0.32 * len(segments)) as (figure, (panel,)):
        for shift, name in ((-0.2, "two_tower"), (0.2, "popularity")):
            values = [metrics[name].get(metric, 0.0) for _, metrics in segments]
            positions = [y + shift for y in range(len(segments))]
            panel.barh(positions, values, 0.38, label=_label(name), color=_COLORS[name])
        panel.set_yticks(range(len(segments)), [plain_label(label) for label, _ in segments])
        panel.set_ylim(len(segments) - 0.4, -0.6)
        panel.set_xlabel(metric)
        panel.xaxis.set_major_locator(MaxNLocator(6))
        panel.grid(visible=False, axis="y")
        add_legend(figure, panel)


def plot_index(points: Sequence[tuple[str, float, float]], path: Path) -> None:
    """Plots queries per second against recall, one line per index.

    Args:
        points: name of the index, recall against exact search and queries per second.
        path: the PNG file to write.
    """
    with drawing(path, 5.4, 4) as (figure, (panel,)):
        for name in dict.fromkeys(name for name, _, _ in points):
            line = sorted((recall, speed) for point_name, recall, speed in points if point_name == name)
            panel.plot([recall for recall, _ in line], [speed for _, speed in line], "o-", label=plain_label(name))
        panel.set(yscale="log", xlabel="recall@100 against exact search", ylabel="queries per second")
        add_legend(figure, panel)


def _label(ranking: str) -> str:
    return ranking.replace("_", " ")
