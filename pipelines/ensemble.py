"""Stacks finished runs into one model, cross-fitted over their folds.

python -m pipelines.ensemble --runs runs/a runs/b runs/c --out runs/ensemble
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
from recsys.evaluation.logits import LogitLink
from recsys.evaluation.metrics import LOWER_IS_BETTER, METRIC_NAMES, MetricName, Metrics, format_metric, measure
from recsys.evaluation.stacking import STACK_METHODS, StackMethod, cross_fit_stack, fit_stack
from recsys.runs.calibration import calibrate_run, print_calibration
from recsys.runs.folder import RunFolder
from recsys.runs.layout import OOF_FILE, STACK_FILE
from recsys.runs.metrics import EnsembleMetrics, Gain, LinkSummary, StackSummary
from recsys.runs.predictions import Predictions, RunPredictions, by_fold, join, join_predictions, read_predictions
from recsys.runs.summary import spread
from recsys.system.files import write_json
from recsys.system.progress import console, progress_line


def ensemble(
    more: Annotated[list[Path] | None, typer.Argument(metavar="RUN", help="Finished runs.")] = None,
    runs: Annotated[list[Path] | None, typer.Option(help="Finished runs; more may follow, as --runs A B C.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. Left out: a name under runs/.")] = None,
    method: Annotated[
        StackMethod | None, typer.Option(help="How members are joined. Left out: what scores highest by --metric.")
    ] = None,
    metric: Annotated[MetricName, typer.Option(help="What methods are chosen by.")] = "toss_score",
    replicates: Annotated[int, typer.Option(min=100, help="Bootstrap samples of the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the samples.")] = 0,
) -> None:
    """Stack finished runs.

    Every method is fitted to all folds but one and judged on that one, in turn. Runs of a single part, such as a test
    split, leave nothing to fit on: theirs is the mean of logits, which needs no fit.
    """
    paths = [*(runs or []), *(more or [])]
    if len(paths) < 2:
        raise InputError("an ensemble needs two runs or more: --runs runs/a runs/b")
    if len({path.name for path in paths}) < len(paths):
        raise InputError("two of the runs have the same name: rename a folder, so that the members can be told apart")
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
    """Stacks finished runs into a run folder, if that was not done before."""
    runs = join_predictions([read_predictions(path) for path in paths])
    config = {
        "model": {"name": "ensemble", "method": method, "metric": metric},
        "members": {path.name: fingerprint(path) for path in paths},
        "bootstrap": {"replicates": replicates, "seed": seed},
    }
    folder = out or Path("runs") / f"ensemble-{hashlib.sha256(json.dumps(config).encode()).hexdigest()[:8]}"
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
    """Fits, judges and keeps an ensemble."""
    first, names = runs[0], [run.name for run in runs]
    label, fold, natural_NM = first.label, first.fold, natural_logits(runs)
    folds = np.unique(fold)
    if len(folds) == 1 and method not in (None, "logit_mean"):
        raise InputError(f"--method {method} is fitted on other folds, and these runs have only {str(folds[0])!r}")
    tried: tuple[StackMethod, ...] = (method,) if method else STACK_METHODS if len(folds) > 1 else ("logit_mean",)

    by_member = {run.name: run.predictions.measure() for run in runs}
    with progress_line("stacking fits", len(tried) + len(names), unit="fits") as line:
        stacked, by_method, without = {}, {}, {}
        for kind in tried:
            stacked[kind] = first.logits.with_natural(cross_fit_stack(kind, names, natural_NM, label, fold))
            by_method[kind] = measure(label, stacked[kind])
            line.advance(1)
        chosen = max(tried, key=lambda kind: goodness(by_method[kind], metric))
        for number, name in enumerate(names):
            others = [other for other in names if other != name]
            natural = cross_fit_stack(chosen, others, np.delete(natural_NM, number, axis=1), label, fold)
            without[name] = measure(label, first.logits.with_natural(natural))
            line.advance(1)
    best = max(runs, key=lambda run: goodness(by_member[run.name], metric))
    with progress_line("gain replicates", replicates, unit="replicates") as line:
        gain = paired_bootstrap(
            label, best.logits, stacked[chosen], replicates, seed=seed, on_replicate=lambda: line.advance(1)
        )

    parts = by_fold(label, fold, stacked[chosen])
    stack = fit_stack(chosen, names, natural_NM, label)
    folds_metrics = {part.name: part.measure() for part in parts}
    metrics = EnsembleMetrics(
        overall=by_method[chosen],
        folds=folds_metrics,
        spread=spread(list(folds_metrics.values())),
        segments={},
        train=stack_summary(parts),
        calibration=calibrate_run(run, parts),
        member_folders={path.name: str(path.resolve()) for path in folders},
        method=chosen,
        members=by_member,
        methods=by_method,
        without=without,
        weights=dict(zip(names, stack.weights, strict=True)) if chosen != "rank_mean" else None,
        gain=Gain(over=best.name, differences=gain),
    )
    write_json(run.file(STACK_FILE), stack.model_dump(mode="json"))
    run.finish(metrics, parts, first.row_id.take(pa.array(join(parts).row)))


def natural_logits(runs: Sequence[RunPredictions]) -> np.ndarray:
    """[n, M] natural logits of joined runs."""
    return np.stack([run.logits.natural for run in runs], axis=1)


def stack_summary(parts: Sequence[Predictions]) -> StackSummary:
    """How an ensemble's logits, which are natural ones, relate to p and q."""
    weights = {part.name: float(np.exp(part.logits.log_pos_weight[0])) for part in parts}
    return StackSummary(fits={name: LinkSummary(link=LogitLink(1.0, weight)) for name, weight in weights.items()})


def print_ensemble(metrics: EnsembleMetrics) -> None:
    """Prints members, methods, what each member adds, and the gain over the best of them."""
    table = Table(
        title="members, and ways to join them; each row judged by a fit to the other folds", title_justify="left"
    )
    table.add_column("")
    for column in (*METRIC_NAMES, "weight", "toss_score without it"):
        table.add_column(column, justify="right")
    for name, figures in metrics.members.items():
        weight = "" if metrics.weights is None else f"{metrics.weights[name]:.3f}"
        table.add_row(name, *figures.formatted(), weight, format_metric(metrics.without[name].toss_score))
    table.add_section()
    for kind, figures in metrics.methods.items():
        table.add_row(kind, *figures.formatted(), style="bold" if kind == metrics.method else None)
    console.print(table)
    print_differences(metrics.gain.differences, f"{metrics.method} - {metrics.gain.over}")


def goodness(found: Metrics, metric: MetricName) -> float:
    """The higher the better, whatever the metric; undefined is worst."""
    value = found.value(metric)
    if value is None:
        return -np.inf
    return -value if metric in LOWER_IS_BETTER else value


def fingerprint(run: Path) -> str:
    """Of what a finished run predicted."""
    with (run / OOF_FILE).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


if __name__ == "__main__":
    run_pipeline(ensemble)
