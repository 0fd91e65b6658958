"""Stacks finished runs into one model, cross-fitted over their folds.

python -m pipelines.ensemble --runs runs/a runs/b runs/c --out runs/ensemble

Shapes: N rows of a data set, M models of an ensemble (its members).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer

from pipelines.common.cli import run_pipeline
from pipelines.compare import print_differences
from pipelines.parts.comparison import compare_models
from ranking.scoring import read_calibration
from recsys.errors import InputError
from recsys.evaluation.calibration.gain import CalibrationLoss, loss_of
from recsys.evaluation.logits import LogitLink
from recsys.evaluation.metrics import NEEDS_USERS, MetricName, measure
from recsys.evaluation.shown import TITLES, format_metric, format_metrics, titles
from recsys.evaluation.stack_choice import Member, cross_fit_ensemble, cross_fit_members, fit_stack_to_all
from recsys.evaluation.stack_fitting import fit_stack
from recsys.evaluation.stacking import STACK_METHODS, StackMethod
from recsys.report.tables import TextRow, text_table
from recsys.runs.calibration import calibrate_run, keep_calibrated, print_calibration
from recsys.runs.folder import RunFolder
from recsys.runs.layout import METRICS_FILE, OOF_FILE, STACK_FILE
from recsys.runs.metrics import EnsembleMetrics, Gain, LinkSummary, StackSummary, read_metrics
from recsys.runs.predictions import Predictions, RunPredictions, by_fold, join, join_predictions, read_predictions
from recsys.runs.summary import spread, weight_notes
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
) -> Path:
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
    print_calibration(run.metrics())
    console.print(f"run folder: {run.folder}")
    return run.folder / METRICS_FILE


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
    metric, loss = named[0], loss_of(named[0])
    first, names = runs[0], [run.name for run in runs]
    members = [read_member(folder, run, first.fold, loss) for folder, run in zip(folders, runs, strict=True)]
    rows = members[0].rows
    if not rows.can_cross_fit and method not in (None, "logit_mean"):
        folds = ", ".join(repr(str(name)) for name in np.unique(rows.fold))
        raise InputError(
            f"--method {method} is fitted on other folds, but these runs have only {folds} and no rows of both classes "
            "outside one of them: pass --method logit_mean, or runs with several folds"
        )
    member_metrics = {run.name: run.predictions.measure() for run in runs}
    if rows.can_cross_fit:
        methods: tuple[StackMethod, ...] = (method,) if method else STACK_METHODS
        n_folds = len(np.unique(rows.fold))
        with progress_line("stacking fits", n_folds**2 + n_folds * len(names), unit="folds") as line:
            stacked = cross_fit_ensemble(members, methods, metric, loss, lambda: line.advance(1))
            chosen, method_by_fold = stacked.method, stacked.method_by_fold
            metrics_of_method = {name: rows.measure(natural) for name, natural in stacked.by_method.items()}
            without = {
                member.name: cross_fit_members(
                    [other for other in members if other is not member],
                    (chosen,),
                    metric,
                    on_fold=lambda: line.advance(1),
                )[chosen]
                for member in members
            }
        raw = by_fold(as_predictions(first, stacked.raw))
        calibrated = stacked.calibrated.take(np.concatenate([fold.row for fold in raw]))
        calibration = keep_calibrated(run, raw, calibrated, loss)
        stack = fit_stack_to_all(members, chosen, metric)
    else:
        natural_NM = natural_logits(runs)
        chosen, method_by_fold = "logit_mean", {}
        raw = by_fold(as_predictions(first, natural_NM.mean(axis=1)))
        metrics_of_method = {chosen: join(raw).measure()}
        without = {name: np.delete(natural_NM, index, axis=1).mean(axis=1) for index, name in enumerate(names)}
        calibration = calibrate_run(run, raw, loss)
        stack = fit_stack(chosen, names, natural_NM, rows.label).model_copy(update={"is_on_calibrated": True})
    predictions = calibration.reported
    joined, best = join(predictions), max(runs, key=lambda run: member_metrics[run.name].signed(metric))
    best_predictions = best.predictions.take(joined.row)
    joined_rows = RunPredictions(first.row_id.take(pa.array(joined.row)), joined)
    gain = compare_models(
        joined_rows, best_predictions.logits, joined.logits, "bootstrap of the gain", replicates, seed
    )
    fold_metrics = {scored.name: scored.measure() for scored in predictions}
    metrics = EnsembleMetrics(
        overall=joined.measure(),
        raw=measure(joined.label, joined.raw, joined.weight, joined.user),
        folds=fold_metrics,
        spread=spread(list(fold_metrics.values())),
        segments={},
        train=stack_summary(predictions),
        named_metrics=named,
        calibration=calibration.summary,
        member_folders={path.name: str(path.resolve()) for path in folders},
        method=chosen,
        method_by_fold=method_by_fold,
        members=member_metrics,
        methods=metrics_of_method,
        without={name: rows.measure(natural) for name, natural in without.items()},
        weights=dict(zip(names, stack.weights, strict=True)) if chosen != "rank_mean" else None,
        gain=Gain(over=best.name, differences=gain.differences, by=gain.by, n_clusters=gain.n_clusters, note=gain.note),
    )
    write_json(run.file(STACK_FILE), stack.model_dump(mode="json"))
    run.finish(metrics, predictions, joined_rows.row_id)


def read_member(folder: Path, run: RunPredictions, fold: np.ndarray, loss: CalibrationLoss) -> Member:
    """A finished run as a member of an ensemble.

    Args:
        folder: the run folder.
        run: its predictions of the rows that the members share.
        fold: [N] the folds of the ensemble.
        loss: what a kind of calibration is chosen by where the run's choice was made on other folds.
    """
    calibration = read_metrics(folder).calibration
    return Member(
        name=run.name,
        rows=replace(run.predictions.held_out, fold=fold),
        calibrator=read_calibration(folder).calibrator,
        kind_by_fold=calibration.by_fold if calibration is not None and np.array_equal(run.fold, fold) else {},
        loss=loss,
    )


def as_predictions(first: RunPredictions, natural: np.ndarray) -> Predictions:
    """The [N] natural logits of an ensemble as predictions of the rows of its first member."""
    predictions = replace(first.predictions, raw_by_seed=natural[:, None], row=np.arange(len(natural)))
    return predictions.calibrated(natural[:, None])


def natural_logits(runs: Sequence[RunPredictions]) -> np.ndarray:
    """[N, M] reported natural logits of joined runs."""
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
        rows.append(TextRow(cells))
    reported = format_metrics(metrics.overall, metrics.shown, metrics.sd)
    rows.append(TextRow(("reported", *reported, "", ""), "bold"))
    columns = ("member / method", *titles(metrics.shown), "weight", f"{TITLES[metric]} without member")
    title = "members and stacking methods; each fold is evaluated with a stack fitted to the other folds"
    others = {fold: name for fold, name in metrics.method_by_fold.items() if name != metrics.method}
    folds = "".join(f", {name} for fold {fold}" for fold, name in others.items())
    console.print(text_table(title, columns, rows))
    console.print(f"reported: {metrics.method}{folds}, as chosen on the other folds, then calibrated")
    for note in weight_notes(metrics):
        console.print(note)
    title = f"ensemble vs. {metrics.gain.over} (baseline)"
    print_differences(metrics.gain.differences, title, metrics.shown, metrics.gain.by)
    if metrics.gain.note:
        console.print(metrics.gain.note)


def fingerprint(run: Path) -> str:
    """Fingerprint of the predictions of a finished run."""
    with (run / OOF_FILE).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


if __name__ == "__main__":
    run_pipeline(ensemble)
