"""Sections of a plan's report that are made of plots."""

from pathlib import Path
from typing import Any

from pipelines.plan.config import EnsembleStep, RetrievalStep, SweepStep
from pipelines.plan.state import SWEEP_FILE, PlanState, Runs
from recsys.evaluation.logits import probability
from recsys.report.comparison_plots import (
    plot_bars,
    plot_distributions,
    plot_horizontal_bars,
    plot_learning_curves,
    plot_precision_recall,
)
from recsys.report.html import Block, Section, Table, number, plot, row
from recsys.report.plots import plot_reliability
from recsys.runs.calibration import RELIABILITY_FILE
from recsys.runs.folder import METRICS_FILE
from recsys.runs.predictions import join_predictions, read_predictions
from recsys.system.files import is_done, read_json

_MAX_TABLE_SEGMENTS = 40
_RECALL_PARTS = ("two_tower", "reranked", "popularity", "random", "truth")


def curves(state: PlanState, runs: Runs, plots: Path) -> Section:
    """Learning, precision and recall, distributions, reliability."""
    blocks: list[Block] = []
    learning = {name: found for name, metrics in runs.items() if (found := _monitored(metrics))}
    if learning:
        plot_learning_curves(learning, "monitored", plots / "learning.png")
        caption = (
            "The composite metric of the rows that early stopping watches, a line for each fold. An epoch of trees is "
            "some number of them."
        )
        blocks.append(plot(plots / "learning.png", caption))
    names = main_runs(state, runs)
    if names:
        joined = join_predictions([read_predictions(state.folder(name)) for name in names])
        scores = {name: found.scores for name, found in zip(names, joined, strict=True)}
        label = joined[0].label
        plot_precision_recall(label, {name: s.natural_logit for name, s in scores.items()}, plots / "pr.png")
        blocks.append(plot(plots / "pr.png", "Precision against recall."))
        both = {name: (s.natural_logit, s.balanced_logit) for name, s in scores.items()}
        plot_distributions(both, plots / "distributions.png")
        caption = "Predictions at the natural base rate (p) and with classes balanced (q), before calibration."
        blocks.append(plot(plots / "distributions.png", caption))
        few = dict.fromkeys([state.plan.reference, max(names, key=lambda n: runs[n]["overall"]["score"]), names[-1]])
        p = {name: probability(scores[name].natural_logit) for name in few if name in scores}
        plot_reliability(p, label, plots / "reliability.png")
        caption = (
            "Observed against predicted click rates, before calibration: the reference, the best and the last run."
        )
        blocks.append(plot(plots / "reliability.png", caption))
    return Section("Curves", "", blocks)


def _monitored(metrics: dict[str, Any]) -> list[list[float]]:
    fits = [fit.get("epochs", []) for fit in metrics["train"]["fits"].values()]
    found = [[epoch["monitored"] for epoch in epochs if epoch["monitored"] is not None] for epochs in fits]
    return [values for values in found if values]


def main_runs(state: PlanState, runs: Runs) -> list[str]:
    """The runs that every plot shows: an ensemble and its members where there is one, else all."""
    for step in state.plan.steps:
        if isinstance(step, EnsembleStep) and step.name in runs:
            return [*(name for name in step.members if name in runs), step.name]
    return list(runs)


def segments(state: PlanState, runs: Runs, plots: Path) -> Section:
    """AP by segment."""
    blocks: list[Block] = []
    names = [name for name in main_runs(state, runs) if runs[name]["segments"]]
    segmentations = runs[names[0]]["segments"] if names else {}
    for segmentation, labels in segmentations.items():
        ap = {
            label: {name: value for name in names if (value := runs[name]["segments"][segmentation][label]["ap"])}
            for label in labels
        }
        ap = {label: values for label, values in ap.items() if values}
        if not ap:
            continue
        if len(ap) <= 6:
            path = plots / f"segments-{segmentation}.png"
            plot_bars(ap, "AP", path)
            blocks.append(plot(path, f"AP by {segmentation}."))
        rows = tuple(
            row([label, f"{labels[label]['n_rows']:,}", *[number(values.get(name)) for name in names]])
            for label, values in list(ap.items())[:_MAX_TABLE_SEGMENTS]
        )
        blocks.append(Table((segmentation, "rows", *names), rows, f"AP by {segmentation}"))
    return Section("Segments", "", blocks)


def sweeps(state: PlanState) -> Section:
    """The maps of sweeps."""
    blocks: list[Block] = []
    for step in state.plan.steps:
        folder = state.folder(step.name) if isinstance(step, SweepStep) else None
        if isinstance(step, SweepStep) and folder is not None and (folder / SWEEP_FILE).is_file():
            point = ", ".join(state.best_point(step.name))
            caption = (
                f"{step.name}: {step.model} on fold {step.fold}, by the score of its reported rows. Those that early "
                f"stopping watches, which are others, like {point} best: that is what goes on."
            )
            blocks.append(plot(folder / "sweep.png", caption))
    return Section("Sweeps", "", blocks)


def retrieval(state: PlanState) -> Section:
    """Recall of retrieval runs beside what is cheap and what is best."""
    blocks: list[Block] = []
    for step in state.plan.steps:
        if isinstance(step, RetrievalStep) and is_done(folder := state.folder(step.name)):
            metrics = read_json(folder / METRICS_FILE)
            parts = [part for part in _RECALL_PARTS if isinstance(metrics.get(part), dict) and metrics[part]]
            keys = [key for key in metrics["two_tower"] if isinstance(metrics["two_tower"][key], int | float)]
            rows = tuple(row([part, *[number(metrics[part].get(key)) for key in keys]]) for part in parts)
            blocks.append(Table(("candidates by", *keys), rows, step.name))
            blocks += [plot(path, path.stem) for path in sorted(folder.glob("*.png"))]
    return Section("Retrieval", "", blocks)


def ensembles(state: PlanState, runs: Runs, plots: Path) -> Section:
    """Weights, what each member brings, and the ways to join them."""
    blocks: list[Block] = []
    for step in state.plan.steps:
        if not isinstance(step, EnsembleStep) or step.name not in runs:
            continue
        metrics = runs[step.name]
        score = metrics["overall"]["score"]
        brings = {name: score - found["score"] for name, found in metrics["without"].items()}
        panels = {"weight": metrics["weights"]} if metrics["weights"] is not None else {}
        path = plots / f"weights-{step.name}.png"
        plot_horizontal_bars(panels | {"score lost without it": brings}, path)
        blocks.append(plot(path, f"{step.name}, joined by {metrics['method']}: members' weights and what each brings."))
        if (reliability := state.folder(step.name) / RELIABILITY_FILE).is_file():
            caption = f"{step.name}: observed against predicted click rates, raw and calibrated."
            blocks.append(plot(reliability, caption))
        shown = ("ap", "wll", "roc_auc", "ece", "score")
        rows = [row([method, *[number(found[m]) for m in shown]]) for method, found in metrics["methods"].items()]
        for kind, found in metrics["calibration"]["figures"].items():
            name = f"{metrics['method']}, {'raw' if kind == 'none' else kind}"
            is_chosen = kind == metrics["calibration"]["chosen"]
            rows.append(row([name, *[number(found[m]) for m in shown]], "strong" if is_chosen else ""))
        blocks.append(Table(("joined by", *shown), tuple(rows), f"{step.name}: ways to join, then calibrations"))
    return Section("Ensemble", "Each row by a fit to the other folds.", blocks)
