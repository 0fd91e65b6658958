"""Runs the steps of a plan; finished steps are skipped."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.ensemble import build_ensemble, natural_logits, print_ensemble, stack_summary
from pipelines.parts.ranking_defaults import resolve_settings
from pipelines.parts.retrieval_defaults import with_defaults
from pipelines.plan.config import (
    EnsembleStep,
    FinalStep,
    GateStep,
    PrepareStep,
    RankStep,
    RetrievalStep,
    Step,
    SweepStep,
)
from pipelines.plan.final import retrain
from pipelines.plan.gates import evaluate_gate
from pipelines.plan.state import PlanState
from pipelines.rank import choose_splits, describe, execute
from pipelines.retrieval import describe as describe_retrieval
from pipelines.retrieval import execute as execute_retrieval
from pipelines.submit import submit
from pipelines.sweep import has_trials, run_sweep
from recsys.data.dataset import PreparedDataset
from recsys.data.split import HOLDOUT
from recsys.errors import InputError
from recsys.evaluation.gates import EvaluateOn
from recsys.evaluation.metrics import measure
from recsys.evaluation.stack_fitting import fit_stack
from recsys.evaluation.stacking import Stack, StackMethod
from recsys.evaluation.verdicts import STYLES, Verdict
from recsys.runs.calibration import calibrate_run, print_calibration
from recsys.runs.config import RUN_SECTION
from recsys.runs.folder import RunFolder
from recsys.runs.layout import STACK_FILE
from recsys.runs.metrics import EnsembleMetrics, HoldoutEnsembleMetrics
from recsys.runs.predictions import RunPredictions, by_fold, join, join_predictions, read_predictions
from recsys.runs.score_feature import with_scores
from recsys.runs.summary import print_summary, spread
from recsys.system.files import finish_folder, is_done, partial_folder, read_json, removed_if_refused, write_json
from recsys.system.progress import console
from recsys.system.world import World
from retrieval.evaluation.summary import RetrievalMetrics, print_retrieval

DATA_FILE = "data.json"
SUBMISSION_FILE = "submission.csv"
FOLDS: dict[EvaluateOn, str] = {"folds": "all", "holdout": HOLDOUT}
"""The `--folds` value of each kind of evaluation rows."""


def run_step(state: PlanState, step: Step, dataset: PreparedDataset, world: World) -> None:
    """Runs a step."""
    match step:
        case PrepareStep():
            describe_data(state, step, dataset)
        case RankStep():
            rank_step(state, step, dataset, world)
        case SweepStep():
            settings = state.sweep_settings(step)
            splits = choose_splits(dataset, str(step.fold))
            folder = state.folder(step.name)
            with removed_if_refused(folder, lambda: has_trials(folder)):
                run_sweep(step.model, settings, state.config, dataset, splits, folder, world)
        case RetrievalStep():
            retrieval_step(state, step, dataset, world)
        case GateStep():
            gate_step(state, step, dataset)
        case EnsembleStep():
            ensemble_step(state, step)
        case FinalStep():
            submission_step(state, step, dataset, retrain(state, step, dataset, world))


def describe_data(state: PlanState, step: PrepareStep, dataset: PreparedDataset) -> None:
    """Writes the folder of step 1, which records the prepared data set of the plan.

    Raises:
        InputError: when the plan was started on other data.
    """
    folder = state.folder(step.name)
    values = {
        "name": dataset.name,
        "folder": str(dataset.folder.resolve()),
        "fingerprint": dataset.manifest.fingerprint,
        "groups": [group.model_dump() for group in dataset.groups],
        "test_files": list(dataset.manifest.test_files),
    }
    if is_done(folder):
        if read_json(folder / DATA_FILE)["fingerprint"] != values["fingerprint"]:
            raise InputError(f"{state.out} holds a plan on other data than {dataset.folder}: choose another --out")
        return
    partial = partial_folder(folder)
    partial.mkdir(exist_ok=True)
    write_json(partial / DATA_FILE, values)
    finish_folder(folder)


def rank_step(state: PlanState, step: RankStep, dataset: PreparedDataset, world: World) -> None:
    """Trains and evaluates a model on all folds, and on the holdout."""
    for evaluate_on, folder in state.fits(step):
        splits, data = choose_splits(dataset, FOLDS[evaluate_on]), dataset
        settings = resolve_settings(state.rank_config(step), dataset, splits, world)
        resolved = describe(settings, dataset, splits)
        if step.features_of is not None:
            scored = with_scores(dataset, state.folder(step.features_of), splits)
            data, resolved[RUN_SECTION]["score_feature"] = scored.dataset, scored.feature.model_dump()
        run = RunFolder(folder, resolved, world.is_main)
        if not run.is_done:
            with run.removed_if_refused():
                execute(run, settings, data, splits, world)
            print_summary(run.metrics(), folder.name)
            print_calibration(run.metrics().calibration)


def retrieval_step(state: PlanState, step: RetrievalStep, dataset: PreparedDataset, world: World) -> None:
    """Trains towers on all days but the last, evaluates them on it, and reranks with the reranker's holdout run."""
    settings = with_defaults(state.retrieval_config(step), dataset.split(HOLDOUT), world.device.type)
    resolved = describe_retrieval(settings, dataset, HOLDOUT)
    has_reranker = step.reranker is not None and step.reranker not in state.not_applicable.steps
    reranker = state.folder(step.reranker, "holdout") if step.reranker is not None and has_reranker else None
    if reranker is not None:
        resolved[RUN_SECTION]["reranker"] = str(reranker)
    run = RunFolder(state.folder(step.name), resolved, world.is_main)
    if not run.is_done:
        with run.removed_if_refused():
            execute_retrieval(run, settings, dataset, HOLDOUT, world, reranker)
        print_retrieval(run.metrics_as(RetrievalMetrics), run.folder.name)


def gate_step(state: PlanState, step: GateStep, dataset: PreparedDataset) -> None:
    """Evaluates a gate and saves the verdict; skips a decided gate."""
    if not state.is_decided(step.gate):
        verdict = evaluate_gate(state, step.gate, dataset)
        state.keep(verdict)
        print_verdict(verdict)


def print_verdict(verdict: Verdict) -> None:
    """Prints a verdict and its checks."""
    console.print(f"gate {verdict.gate}: {verdict.outcome}  {verdict.reason}", style=STYLES[verdict.outcome])
    for check in verdict.checks:
        interval = f" ({check.interval_text})" if check.interval_text else ""
        console.print(
            f"  {verdict.result_of(check)}  {check.what} {check.value_text}{interval}, required {check.threshold}"
        )


def ensemble_step(state: PlanState, step: EnsembleStep) -> None:
    """Stacks the finished members over the folds, and on the holdout with a stack fitted to the earlier days."""
    folders = [folder for name in step.members if is_done(folder := state.folder(name))]
    if len(folders) < 2:
        raise InputError(f"step {step.name}: fewer than two of its members are finished ({', '.join(step.members)})")
    bootstrap = state.plan.bootstrap
    was_done = is_done(state.folder(step.name))
    run = build_ensemble(
        folders,
        state.folder(step.name),
        metric=state.metric,
        replicates=bootstrap.replicates,
        seed=bootstrap.seed,
    )
    if not was_done:
        print_ensemble(run.metrics_as(EnsembleMetrics))
        print_calibration(run.metrics().calibration)
    if all(is_done(state.folder(name, "holdout")) for name in step.members if is_done(state.folder(name))):
        stack_holdout(state, step, run)


def stack_holdout(state: PlanState, step: EnsembleStep, ensemble: RunFolder) -> None:
    """Stacks the holdout runs of the members, with weights fitted on the rows of the earlier days only."""
    names = [name for name in step.members if is_done(state.folder(name))]
    method = ensemble.metrics_as(EnsembleMetrics).method
    evaluate_on: tuple[EvaluateOn, ...] = ("folds", "holdout")
    folders = {rows: [state.folder(name, rows) for name in names] for rows in evaluate_on}
    config = {"model": {"name": "ensemble", "method": method}, "members": [f.name for f in folders["holdout"]]}
    run = RunFolder(state.folder(step.name, "holdout"), config)
    if run.is_done:
        return
    folds, holdout = (join_predictions([read_predictions(f) for f in folders[rows]]) for rows in evaluate_on)
    stack, first = stack_of_earlier_rows(method, folds, holdout), holdout[0]
    logits = first.logits.with_natural(stack.natural_logit(natural_logits(holdout)))
    predictions = by_fold(first.label, first.fold, logits, first.weight)
    fold_metrics = {scored.name: scored.measure() for scored in predictions}
    metrics = HoldoutEnsembleMetrics(
        overall=measure(first.label, logits, first.weight, first.predictions.user),
        folds=fold_metrics,
        spread=spread(list(fold_metrics.values())),
        segments={},
        train=stack_summary(predictions),
        named_metrics=ensemble.metrics().named_metrics,
        calibration=calibrate_run(run, predictions),
        method=method,
    )
    write_json(run.file(STACK_FILE), stack.model_dump(mode="json"))
    run.finish(metrics, predictions, first.row_id.take(pa.array(join(predictions).row)))


def stack_of_earlier_rows(method: StackMethod, folds: list[RunPredictions], holdout: list[RunPredictions]) -> Stack:
    """Fits a stack to the out-of-fold rows that are not in the holdout."""
    earlier = np.flatnonzero(~np.asarray(pc.is_in(folds[0].row_id, value_set=holdout[0].row_id)))
    fit_runs = [run.take(earlier) for run in folds]
    weight = fit_runs[0].predictions.weight_in_full_log
    return fit_stack(method, [run.name for run in holdout], natural_logits(fit_runs), fit_runs[0].label, weight)


def submission_step(state: PlanState, step: FinalStep, dataset: PreparedDataset, final: Path) -> None:
    """Writes the submission of the final run for the data's test files, if any."""
    manifest, out = dataset.manifest, state.out / SUBMISSION_FILE
    if not manifest.test_files:
        console.print("the data has no test files: no submission is written")
        return
    if out.exists() and out.with_suffix(".json").exists():
        return
    out.unlink(missing_ok=True)  # written by an interrupted process, without its .json file
    labels = Path(manifest.truth_file) if manifest.truth_file and Path(manifest.truth_file).is_file() else None
    files = [Path(path) for path in manifest.test_files]
    missing = [path for path in files if not path.is_file()]
    if missing:
        console.print(f"{missing[0]} is missing: the test rows of {dataset.folder} are scored instead")
    test = None if missing else files
    submit(run=final, test=test, out=out, data=dataset.folder, sample=None, labels=labels, scale=state.plan.scale)
