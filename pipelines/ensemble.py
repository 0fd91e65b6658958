"""Stacks finished runs into one model, cross-fitted over their folds.

python -m pipelines.ensemble --runs runs/a runs/b runs/c --out runs/ensemble

Shapes: N rows of a data set, M models of an ensemble (its members).
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from rich.table import Table

from pipelines.common.cli import run_pipeline
from pipelines.compare import print_differences
from recsys.errors import InputError
from recsys.evaluation.comparison import paired_bootstrap
from recsys.evaluation.cross_fitting import can_cross_fit
from recsys.evaluation.logits import LogitLink
from recsys.evaluation.metrics import LOWER_IS_BETTER, METRIC_NAMES, MetricName, Metrics, format_metric, measure
from recsys.evaluation.stack_fitting import cross_fit_stack, fit_stack
from recsys.evaluation.stacking import STACK_METHODS, StackMethod
from recsys.runs.calibration import calibrate_run, print_calibration
from recsys.runs.folder import RunFolder
from recsys.runs.layout import OOF_FILE, STACK_FILE
from recsys.runs.metrics import EnsembleMetrics, Gain, LinkSummary, StackSummary
from recsys.runs.predictions import Predictions, RunPredictions, by_fold, join, join_predictions, read_predictions
from recsys.runs.summary import spread
from recsys.runs.weight_notes import weight_notes
from recsys.system.files import write_json
from recsys.system.progress import console, progress_line


def ensemble(
    run_arguments: Annotated[
        list[Path] | None, typer.Argument(metavar="RUN", help="Run folders of the members.", show_default=False)
    ] = None,
    runs: Annotated[list[Path] | None, typer.Option(help="Run folders of the members, as in --runs A B C.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to write. Default: runs/ensemble-HASH.")] = None,
    method: Annotated[
        StackMethod | None, typer.Option(help="Stacking method. Default: the best one by --metric.")
    ] = None,
    metric: Annotated[MetricName, typer.Option(help="Metric that selects the stacking method.")] = "toss_score",
    replicates: Annotated[int, typer.Option(min=100, help="Number of bootstrap samples of the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the bootstrap.")] = 0,
) -> None:
    """Stack finished runs into an ensemble.

    Fits each method on all folds but one and evaluates it on that fold, in
    turn. Runs with a single fold or split, or with all clicks in one fold, have
    no other rows to fit on: their logits are averaged, which needs no fit.
    """
    paths = [*(runs or []), *(run_arguments or [])]
    if len(paths) < 2:
        raise InputError(f"an ensemble needs at least two runs, got {len(paths)}: pass --runs runs/a runs/b")
    if len({path.name for path in paths}) < len(paths):
        raise InputError("two run folders have the same name: rename one, because members are identified by name")
    run = build_ensemble(paths, out, method, metric, replicates, seed)
    print_ensemble(run.metrics_as(EnsembleMetrics))
    print_calibration(run.metrics().calibration)
    console.print(f"run folder: {run.folder}")


def build_ensemble(
    paths: list[Path],
    out: Path | None,
    method: StackMethod | None = None,
    metric: MetricName = "toss_score",
    replicates: int = 1000,
    seed: int = 0,
) -> RunFolder:
    """Stacks finished runs into a run folder; skips a finished run folder."""
    runs = join_predictions([read_predictions(path) for path in paths])
    config = {
        "model": {"name": "ensemble", "method": method, "metric": metric},
        "members": {path.name: fingerprint(path) for path in paths},
        "bootstrap": {"replicates": replicates, "seed": seed},
    }
    folder = out or Path("runs") / f"ensemble-{hashlib.sha256(json.dumps(config).encode()).hexdigest()[:8]}"
    n_positive = int(runs[0].label.sum())
    if n_positive in (0, len(runs[0].label)):
        raise InputError(
            f"{', '.join(run.name for run in runs)} share {len(runs[0].label):,} rows, {n_positive:,} of them "
            "positive: an ensemble needs rows of both classes, pass other runs"
        )
    run = RunFolder(folder, config)
    if not run.is_done:
        stack_members(run, paths, runs, method, metric, replicates, seed)
    return run


def stack_members(
    run: RunFolder,
    folders: list[Path],
    runs: list[RunPredictions],
    method: StackMethod | None,
    metric: MetricName,
    replicates: int,
    seed: int,
) -> None:
    """Fits and evaluates an ensemble, and writes its run folder."""
    first, names = runs[0], [run.name for run in runs]
    label, fold, natural_NM, weight = first.label, first.fold, natural_logits(runs), first.weight
    fit_weight = first.predictions.weight_in_full_log
    can_fit = can_cross_fit(label, fold, weight)
    if not can_fit and method not in (None, "logit_mean"):
        folds = ", ".join(repr(str(name)) for name in np.unique(fold))
        raise InputError(
            f"--method {method} is fitted on other folds, but these runs have only {folds} and no rows of both classes "
            "outside one of them: pass --method logit_mean, or runs with several folds"
        )
    methods: tuple[StackMethod, ...] = (method,) if method else STACK_METHODS if can_fit else ("logit_mean",)

    member_metrics = {run.name: run.predictions.measure() for run in runs}
    with progress_line("stacking fits", len(methods) + len(names), unit="fits") as line:
        stacked_logits, method_metrics, metrics_without = {}, {}, {}
        for name in methods:
            natural = cross_fit_stack(name, names, natural_NM, label, fold, fit_weight)
            stacked_logits[name] = first.logits.with_natural(natural)
            method_metrics[name] = measure(label, stacked_logits[name], weight)
            line.advance(1)
        chosen = max(methods, key=lambda name: signed_metric(method_metrics[name], metric))
        for index, member in enumerate(names):
            remaining = [name for name in names if name != member]
            members_NM = np.delete(natural_NM, index, axis=1)
            natural = cross_fit_stack(chosen, remaining, members_NM, label, fold, fit_weight)
            metrics_without[member] = measure(label, first.logits.with_natural(natural), weight)
            line.advance(1)
    best = max(runs, key=lambda run: signed_metric(member_metrics[run.name], metric))
    with progress_line("bootstrap of the gain", replicates, unit="replicates") as line:
        gain = paired_bootstrap(
            label,
            best.logits,
            stacked_logits[chosen],
            replicates,
            seed=seed,
            on_replicate=lambda: line.advance(1),
            weight=weight,
        )

    predictions = by_fold(label, fold, stacked_logits[chosen], weight)
    stack = fit_stack(chosen, names, natural_NM, label, fit_weight)
    fold_metrics = {scored.name: scored.measure() for scored in predictions}
    metrics = EnsembleMetrics(
        overall=method_metrics[chosen],
        folds=fold_metrics,
        spread=spread(list(fold_metrics.values())),
        segments={},
        train=stack_summary(predictions),
        calibration=calibrate_run(run, predictions),
        member_folders={path.name: str(path.resolve()) for path in folders},
        method=chosen,
        members=member_metrics,
        methods=method_metrics,
        without=metrics_without,
        weights=dict(zip(names, stack.weights, strict=True)) if chosen != "rank_mean" else None,
        gain=Gain(over=best.name, differences=gain),
    )
    write_json(run.file(STACK_FILE), stack.model_dump(mode="json"))
    run.finish(metrics, predictions, first.row_id.take(pa.array(join(predictions).row)))


def natural_logits(runs: Sequence[RunPredictions]) -> np.ndarray:
    """[N, M] natural logits of joined runs."""
    return np.stack([run.logits.natural for run in runs], axis=1)


def stack_summary(predictions: Sequence[Predictions]) -> StackSummary:
    """The link from an ensemble's logits, which are natural logits, to p and q, by fold."""
    links = {
        fold.name: LogitLink.of_natural(float(fold.logits.log_pos_weight[0]), fold.logits.log_sampling_rate)
        for fold in predictions
    }
    return StackSummary(fits={name: LinkSummary(link=link) for name, link in links.items()})


def print_ensemble(metrics: EnsembleMetrics) -> None:
    """Prints members, stacking methods, the metrics without each member, and the gain over the best member."""
    table = Table(
        title="members and stacking methods; each fold is evaluated with a stack fitted to the other folds",
        title_justify="left",
    )
    table.add_column("member / method")
    for column in (*METRIC_NAMES, "weight", "toss_score without member"):
        table.add_column(column, justify="right")
    for name, figures in metrics.members.items():
        weight = "" if metrics.weights is None else f"{metrics.weights[name]:.3f}"
        table.add_row(name, *figures.formatted(), weight, format_metric(metrics.without[name].toss_score))
    table.add_section()
    for method, figures in metrics.methods.items():
        table.add_row(method, *figures.formatted(), style="bold" if method == metrics.method else None)
    console.print(table)
    for note in weight_notes(metrics):
        console.print(note)
    print_differences(metrics.gain.differences, f"{metrics.method} vs. {metrics.gain.over} (baseline)")


def signed_metric(metrics: Metrics, metric: MetricName) -> float:
    """A metric's value with the sign that makes higher better; -inf if it is undefined."""
    value = metrics.value(metric)
    if value is None:
        return -np.inf
    return -value if metric in LOWER_IS_BETTER else value


def fingerprint(run: Path) -> str:
    """Fingerprint of the predictions of a finished run."""
    with (run / OOF_FILE).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


if __name__ == "__main__":
    run_pipeline(ensemble)
