"""Pictures of a retrieval run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from retrieval.evaluation.ranks import KS

matplotlib.use("Agg")  # files only, no window

_DPI = 150
_STYLE = {
    "two_tower": "tab:blue",
    "reranked": "tab:purple",
    "popularity": "tab:orange",
    "random": "tab:grey",
    "recent": "tab:red",
    "reranked_jointly": "tab:pink",
    "truth": "tab:green",
}


def plot_recall(by_panel: Mapping[str, Mapping[str, Mapping[str, float]]], path: Path) -> None:
    """Draws recall@K over K, a panel for each set of requests.

    Args:
        by_panel: by the panel's title, by ranking, its figures.
        path: the PNG to write.
    """
    figure = Figure(figsize=(5 * len(by_panel), 4), layout="constrained")
    for panel, (title, rankings) in zip(
        figure.subplots(1, len(by_panel), squeeze=False)[0], by_panel.items(), strict=True
    ):
        for name, figures in rankings.items():
            ks = [k for k in KS if f"recall@{k}" in figures]
            panel.plot(ks, [figures[f"recall@{k}"] for k in ks], "o-", ms=4, label=name, color=_STYLE.get(name))
        panel.set(xscale="log", xlabel="K", ylabel="recall@K", title=title, ylim=(0, None))
        panel.set_xticks(KS, [str(k) for k in KS])
        panel.grid(alpha=0.3)
        panel.legend()
    figure.savefig(path, dpi=_DPI)


def plot_segments(by_label: Mapping[str, Mapping[str, Mapping[str, float]]], metric: str, path: Path) -> None:
    """Draws a metric by segment, that of the towers beside popularity's.

    Args:
        by_label: by the segment's label, by ranking, its figures.
        metric: which of them.
        path: the PNG to write.
    """
    bars = list(by_label.items())
    figure = Figure(figsize=(6, 1.2 + 0.32 * len(bars)), layout="constrained")
    panel = figure.subplots()
    for shift, name in ((-0.2, "two_tower"), (0.2, "popularity")):
        values = [figures[name].get(metric, 0.0) for _, figures in bars]
        panel.barh([place + shift for place in range(len(bars))], values, 0.38, label=name, color=_STYLE[name])
    panel.set_yticks(range(len(bars)), [label for label, _ in bars])
    panel.invert_yaxis()
    panel.set_xlabel(metric)
    panel.grid(alpha=0.3, axis="x")
    panel.legend()
    figure.savefig(path, dpi=_DPI)


def plot_index(points: Sequence[tuple[str, float, float]], path: Path) -> None:
    """Draws queries per second against recall.

    Args:
        points: of each index its name, recall against exact search and queries a second.
        path: the PNG to write.
    """
    figure = Figure(figsize=(5, 4), layout="constrained")
    panel = figure.subplots()
    for name in dict.fromkeys(name for name, _, _ in points):
        mine = sorted((recall, speed) for other, recall, speed in points if other == name)
        panel.plot([recall for recall, _ in mine], [speed for _, speed in mine], "o-", ms=4, label=name)
    panel.set(yscale="log", xlabel="recall@100 against exact search", ylabel="queries a second")
    panel.grid(alpha=0.3)
    panel.legend()
    figure.savefig(path, dpi=_DPI)
