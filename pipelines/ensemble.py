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

from pipelines.common.cli import run_pipeline
from pipelines.compare import print_differences
from pipelines.parts.comparison import compare_models
from recsys.errors import InputError
from recsys.evaluation.cross_fitting import can_cross_fit
from recsys.evaluation.logits import LogitLink
from recsys.evaluation.metrics import NEEDS_USERS, MetricName, measure
from recsys.evaluation.shown import TITLES, format_metric, format_metrics, titles
from recsys.evaluation.stack_fitting import cross_fit_stack, fit_stack
from recsys.evaluation.stacking import STACK_METHODS, StackMethod
from recsys.report.tables import TextRow, text_table
from recsys.runs.calibration import calibrate_run, print_calibration
from recsys.runs.folder import RunFolder
from recsys.runs.layout import OOF_FILE, STACK_FILE
from recsys.runs.metrics import EnsembleMetrics, Gain, LinkSummary, StackSummary, read_metrics
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
    metric: Annotated[
        MetricName | None,
        typer.Option(help="Metric that selects the stacking method. Default: that of the first member's config."),
    ] = None,
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
    metric: MetricName | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> RunFolder:
    """Stacks finished runs into a run folder; skips a finished run folder.

    Args:
        paths: the run folders of the members.
        out: the folder to write; None names it by a hash of the settings.
        method: the stacking method; None selects it by the metric.
        metric: None takes the first metric that the config of the first member names.
        replicates: number of bootstrap samples.
        seed: seed of the bootstrap.

    Raises:
        InputError: if a run is not finished, or the runs share no rows of both classes.
    """
    runs = join_predictions([read_predictions(path) for path in paths])
    named = [name for path in paths for name in read_metrics(path).named_metrics]
    metric = metric or named[0]
    if metric in NEEDS_USERS and runs[0].predictions.user is None:
        raise InputError(
            f"--metric {metric} needs users, but oof.csv of {paths[0]} has no column user: name schema.user in the "
            "config, prepare and rank again, or pass another --metric"
        )
    config = {
        "model": {"name": "ensemble", "method": method, "metric": metric},
        "members": {path.name: fingerprint(path) for path in paths},
        "bootstrap": {"replicates": replicates, "seed": seed},
    }
    folder = out or Path("runs") / f"ensemble-{hashlib.sha256(json.dumps(config).encode()).hexdigest()[:8]}"
    if not runs[0].predictions.has_both_classes:
        raise InputError(
            f"{', '.join(run.name for run in runs)} share {len(runs[0].label):,} rows, {int(runs[0].label.sum()):,} of "
            "them positive: an ensemble needs rows of both classes, pass other runs"
        )
    run = RunFolder(folder, config)
    if not run.is_done:
        with run.removed_if_refused():
            stack_members(run, paths, runs, method, tuple(dict.fromkeys((metric, *named))), replicates, seed)
    return run


def stack_members(
    run: RunFolder,
    folders: list[Path],
    runs: list[RunPredictions],
    method: StackMethod | None,
    named: tuple[MetricName, ...],
    replicates: int,
    seed: int,
) -> None:
    """Fits and evaluates an ensemble, and writes its run folder; `named[0]` is the metric to choose by."""
    metric = named[0]
    first, names = runs[0], [run.name for run in runs]
    label, fold, natural_NM, weight = first.label, first.fold, natural_logits(runs), first.weight
    user = first.predictions.user
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
            method_metrics[name] = measure(label, stacked_logits[name], weight, user)
            line.advance(1)
        chosen = max(methods, key=lambda name: method_metrics[name].signed(metric))
        for index, member in enumerate(names):
            remaining = [name for name in names if name != member]
            members_NM = np.delete(natural_NM, index, axis=1)
            natural = cross_fit_stack(chosen, remaining, members_NM, label, fold, fit_weight)
            metrics_without[member] = measure(label, first.logits.with_natural(natural), weight, user)
            line.advance(1)
    best = max(runs, key=lambda run: member_metrics[run.name].signed(metric))
    gain = compare_models(first, best.logits, stacked_logits[chosen], "bootstrap of the gain", replicates, seed)

    predictions = by_fold(label, fold, stacked_logits[chosen], weight)
    stack = fit_stack(chosen, names, natural_NM, label, fit_weight)
    fold_metrics = {scored.name: scored.measure() for scored in predictions}
    metrics = EnsembleMetrics(
        overall=method_metrics[chosen],
        folds=fold_metrics,
        spread=spread(list(fold_metrics.values())),
        segments={},
        train=stack_summary(predictions),
        named_metrics=named,
        calibration=calibrate_run(run, predictions),
        member_folders={path.name: str(path.resolve()) for path in folders},
        method=chosen,
        members=member_metrics,
        methods=method_metrics,
        without=metrics_without,
        weights=dict(zip(names, stack.weights, strict=True)) if chosen != "rank_mean" else None,
        gain=Gain(over=best.name, differences=gain.differences, by=gain.by, n_clusters=gain.n_clusters, note=gain.note),
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
    metric = metrics.named_metrics[0]
    rows: list[TextRow] = []
    for name, figures in metrics.members.items():
        weight = "" if metrics.weights is None else f"{metrics.weights[name]:.3f}"
        without = format_metric(metrics.without[name].value(metric), metrics.sd[metric])
        cells = (name, *format_metrics(figures, metrics.shown, metrics.sd), weight, without)
        rows.append(TextRow(cells, ends_section=len(rows) == len(metrics.members) - 1))
    for method, figures in metrics.methods.items():
        cells = (method, *format_metrics(figures, metrics.shown, metrics.sd), "", "")
        rows.append(TextRow(cells, "bold" if method == metrics.method else None))
    columns = ("member / method", *titles(metrics.shown), "weight", f"{TITLES[metric]} without member")
    title = "members and stacking methods; each fold is evaluated with a stack fitted to the other folds"
    console.print(text_table(title, columns, rows))
    for note in weight_notes(metrics):
        console.print(note)
    title = f"{metrics.method} vs. {metrics.gain.over} (baseline)"
    print_differences(metrics.gain.differences, title, metrics.shown, metrics.gain.by)
    if metrics.gain.note:
        console.print(metrics.gain.note)


def fingerprint(run: Path) -> str:
    """Fingerprint of the predictions of a finished run."""
    with (run / OOF_FILE).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


if __name__ == "__main__":
    run_pipeline(ensemble)
