"""Sections that consist mainly of plots."""

from pathlib import Path

from pipelines.plan.choices import CHOSEN_ON_REPORTED
from pipelines.plan.config import EnsembleStep, RankStep, RetrievalStep, SweepStep
from pipelines.plan.state import PlanState, Runs
from pipelines.sweep import SWEEP_FILE
from recsys.evaluation.shown import TITLES, format_metric, format_metrics, shown_metrics, titles
from recsys.report.comparison_plots import (
    plot_bars,
    plot_distributions,
    plot_horizontal_bars,
    plot_learning_curves,
    plot_precision_recall,
)
from recsys.report.html import Block, Section, Table, plot, row
from recsys.report.plots import plot_reliability
from recsys.runs.calibration import RELIABILITY_FILE
from recsys.runs.metrics import EnsembleMetrics, RunMetrics, TrainSummary, read_metrics, read_metrics_as
from recsys.runs.predictions import join_predictions, read_predictions
from recsys.runs.summary import shown_segments
from recsys.system.files import is_done
from retrieval.evaluation.baselines import NON_PERSONAL
from retrieval.evaluation.summary import RetrievalMetrics

_MAX_TABLE_SEGMENTS = 40
_RANKINGS = ("two_tower", "reranked", *NON_PERSONAL, "random", "truth")


def trained_runs(state: PlanState) -> dict[str, TrainSummary]:
    """What the training of each finished run cost, by its folder's name."""
    fits = [fit for step in state.plan.steps if isinstance(step, RankStep) for fit in state.fits(step)]
    return {folder.name: read_metrics(folder).train_summary for _, folder in fits if is_done(folder)}


def curves(state: PlanState, runs: Runs, plots: Path) -> Section:
    """Learning curves, precision-recall curves, distributions of predictions, and reliability."""
    blocks: list[Block] = []
    learning = {name: values for name, metrics in runs.items() if (values := _monitored(metrics))}
    if learning:
        plot_learning_curves(learning, "early-stopping metric", plots / "learning.png")
        caption = (
            "Learning curves: the composite metric on the early-stopping rows, one line per fold. For gbdt an epoch is "
            "trainer.trees_per_epoch trees."
        )
        blocks.append(plot(plots / "learning.png", caption))
    names = main_runs(state, runs)
    if names:
        rows = state.resolve("auto")
        joined = join_predictions([read_predictions(state.folder(name, rows)) for name in names])
        logits = {name: run.logits for name, run in zip(names, joined, strict=True)}
        label = joined[0].label
        plot_precision_recall(label, {name: values.natural for name, values in logits.items()}, plots / "pr.png")
        blocks.append(plot(plots / "pr.png", "Precision-recall curves."))
        plot_distributions(logits, plots / "distributions.png")
        caption = "Distribution of the predictions at the natural (p) and the balanced (q) scale."
        blocks.append(plot(plots / "distributions.png", caption))
        selected = dict.fromkeys(
            [state.plan.reference, max(names, key=lambda n: runs[n].overall.signed(state.metric)), names[-1]]
        )
        p = {name: logits[name].p for name in selected if name in logits}
        plot_reliability(p, label, plots / "reliability.png", joined[0].predictions.weight_in_full_log)
        caption = (
            "Reliability of the reported predictions, observed against predicted click rate: the reference, the best "
            "and the last run."
        )
        blocks.append(plot(plots / "reliability.png", caption))
    return Section("Curves", "", blocks)


def _monitored(metrics: RunMetrics) -> list[list[float]]:
    """The early-stopping metric of each fit by epoch, without fits that monitored nothing."""
    if not isinstance(metrics.train, TrainSummary):
        return []
    by_fit = [
        [epoch.monitored for epoch in fit.epochs if epoch.monitored is not None] for fit in metrics.train.fits.values()
    ]
    return [values for values in by_fit if values]


def main_runs(state: PlanState, runs: Runs) -> list[str]:
    """The runs in the plots: the first finished ensemble and its members, or all runs if no ensemble is finished."""
    for step in state.plan.steps:
        if isinstance(step, EnsembleStep) and step.name in runs:
            return [*(name for name in step.members if name in runs), step.name]
    return list(runs)


def segments(state: PlanState, runs: Runs, plots: Path) -> Section:
    """AP by segment."""
    blocks: list[Block] = []
    names = [name for name in main_runs(state, runs) if runs[name].segments]
    segmentations = shown_segments(runs[names[0]]) if names else {}
    for segmentation, labels in segmentations.items():
        ap = {
            label: {name: value for name in names if (value := runs[name].segments[segmentation][label].ap)}
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
            row(
                [
                    label,
                    f"{labels[label].n_rows:,}",
                    f"{labels[label].n_positive:,}",
                    *[format_metric(values.get(name)) for name in names],
                ]
            )
            for label, values in list(ap.items())[:_MAX_TABLE_SEGMENTS]
        )
        blocks.append(Table((segmentation, "rows", "positive", *names), rows, f"AP by {segmentation}"))
    return Section("Segments", "", blocks)


def sweeps(state: PlanState) -> Section:
    """The plots of sweeps."""
    blocks: list[Block] = []
    for step in state.plan.steps:
        folder = state.folder(step.name) if isinstance(step, SweepStep) else None
        if isinstance(step, SweepStep) and folder is not None and (folder / SWEEP_FILE).is_file():
            on_tuning = state.resolve("tuning") == "tuning"
            rows = "the tuning part" if on_tuning else f"fold {step.fold}"
            caption = f"{step.name}: {step.model} on {rows}, by the metric of the evaluation rows."
            if point := ", ".join(state.best_point(step.name)):
                chosen_on = (
                    "these rows, which no other figure of this report has"
                    if on_tuning
                    else (f"the early-stopping rows; {CHOSEN_ON_REPORTED}: other folds report these rows")
                )
                is_simplest = on_tuning and state.plan.sweep_choice == "simplest"
                what = "the smallest model within one standard error of the best" if is_simplest else "the best point"
                caption += f" Later steps use {point}, {what} on {chosen_on}."
            blocks.append(plot(folder / "sweep.png", caption))
    return Section("Sweeps", "", blocks)


def retrieval(state: PlanState) -> Section:
    """Recall of retrieval runs, of baselines and, if known, of the true preferences."""
    blocks: list[Block] = []
    for step in state.plan.steps:
        if isinstance(step, RetrievalStep) and is_done(folder := state.folder(step.name)):
            rankings = read_metrics_as(folder, RetrievalMetrics).rankings
            shown = {name: rankings[name] for name in _RANKINGS if name in rankings}
            keys = list(rankings["two_tower"])
            rows = tuple(
                row([name, *[format_metric(values.get(key)) for key in keys]]) for name, values in shown.items()
            )
            blocks.append(Table(("ranking", *keys), rows, step.name))
            blocks += [plot(path, path.stem) for path in sorted(folder.glob("*.png"))]
    return Section("Retrieval", "", blocks)


def ensembles(state: PlanState, runs: Runs, plots: Path) -> Section:
    """Weights of members, the metric lost without each member, and the stacking methods."""
    blocks: list[Block] = []
    for step in state.plan.steps:
        if not isinstance(step, EnsembleStep) or step.name not in runs:
            continue
        metrics = state.metrics_as(EnsembleMetrics, step.name)
        assert metrics is not None  # its run over the folds comes first
        title, shown, sd = TITLES[state.metric], shown_metrics(state.named_metrics), metrics.sd
        losses = {
            name: metrics.overall.signed(state.metric) - without.signed(state.metric)
            for name, without in metrics.without.items()
        }
        panels = {"weight": metrics.weights} if metrics.weights is not None else {}
        path = plots / f"weights-{step.name}.png"
        plot_horizontal_bars(panels | {f"{title} lost without member": losses}, path)
        blocks.append(
            plot(path, f"{step.name}, method {metrics.method}: weight of each member, and {title} lost without it.")
        )
        if (reliability := state.folder(step.name) / RELIABILITY_FILE).is_file():
            caption = f"{step.name}: reliability, observed against predicted click rate, uncalibrated and calibrated."
            blocks.append(plot(reliability, caption))
        rows = [row([method, *format_metrics(figures, shown, sd)]) for method, figures in metrics.methods.items()]
        calibration = metrics.calibration
        for kind, figures in calibration.figures.items() if calibration else ():
            name = f"{metrics.method}, {'uncalibrated' if kind == 'none' else kind}"
            rows.append(
                row(
                    [name, *format_metrics(figures, shown, sd)],
                    "strong" if calibration and kind == calibration.chosen else "",
                )
            )
        blocks.append(
            Table(
                ("method", *titles(shown)),
                tuple(rows),
                f"{step.name}: stacking methods, then calibrations of the chosen one",
            )
        )
    return Section("Ensemble", "Each fold is scored with a stack fitted to the other folds.", blocks)
