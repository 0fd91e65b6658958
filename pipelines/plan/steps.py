"""What each kind of step of a plan does; a step that was finished before is left as it is."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.ensemble import build_ensemble, members_of, parts_of, print_ensemble
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
from pipelines.plan.judging import judge
from pipelines.plan.state import PlanState
from pipelines.rank import choose_splits, describe, execute
from pipelines.retrieval import describe as describe_retrieval
from pipelines.retrieval import execute as execute_retrieval
from pipelines.retrieval import print_retrieval
from pipelines.submit import submit
from pipelines.sweep import run_sweep
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.evaluation.logits import LogitLink
from recsys.evaluation.stacking import Stack, StackMethod, fit_stack
from recsys.evaluation.verdicts import Verdict
from recsys.runs.calibration import calibrate_parts, print_calibration
from recsys.runs.folder import STACK_FILE, RunFolder
from recsys.runs.predictions import Predictions, join_predictions, read_predictions
from recsys.runs.score_feature import with_scores
from recsys.runs.summary import measure_part, print_summary, spread
from recsys.system.files import finish_folder, is_done, partial_folder, read_json, write_json
from recsys.system.progress import console
from recsys.system.world import World

DATA_FILE = "data.json"
SUBMISSION_FILE = "submission.csv"
LAST_DAY = "holdout"
FOLDS = {"folds": "all", "last_day": LAST_DAY}


def run_step(state: PlanState, step: Step, dataset: PreparedDataset, world: World) -> None:
    """Does a step."""
    match step:
        case PrepareStep():
            describe_data(state, step, dataset)
        case RankStep():
            rank_step(state, step, dataset, world)
        case SweepStep():
            settings = state.sweep_settings(step)
            splits = choose_splits(dataset, str(step.fold))
            run_sweep(step.model, settings, Path(state.plan.config), dataset, splits, state.folder(step.name), world)
        case RetrievalStep():
            retrieval_step(state, step, dataset, world)
        case GateStep():
            gate_step(state, step, dataset)
        case EnsembleStep():
            ensemble_step(state, step)
        case FinalStep():
            submission_step(state, step, dataset, retrain(state, step, dataset, world))


def describe_data(state: PlanState, step: PrepareStep, dataset: PreparedDataset) -> None:
    """Step 1's folder: which prepared data set the plan runs on.

    Raises:
        InputError: when the plan began on other data.
    """
    folder = state.folder(step.name)
    told = {
        "name": dataset.name,
        "folder": str(dataset.folder.resolve()),
        "fingerprint": dataset.manifest.fingerprint,
        "groups": [group.model_dump() for group in dataset.groups],
        "test_files": list(dataset.manifest.test_files),
    }
    if is_done(folder):
        if read_json(folder / DATA_FILE)["fingerprint"] != told["fingerprint"]:
            raise InputError(f"{state.out} is a plan on other data than {dataset.folder} holds: choose another --out")
        return
    partial = partial_folder(folder)
    partial.mkdir(exist_ok=True)
    write_json(partial / DATA_FILE, told)
    finish_folder(folder)


def rank_step(state: PlanState, step: RankStep, dataset: PreparedDataset, world: World) -> None:
    """A model over all folds, and on the last day."""
    settings = state.rank_config(step)
    for judged, folder in state.fits(step):
        splits, data = choose_splits(dataset, FOLDS[judged]), dataset
        resolved = describe(settings, dataset, splits)
        if step.features_of is not None:
            joined = with_scores(dataset, state.folder(step.features_of), splits)
            data, resolved["scores"] = joined.dataset, joined.fingerprint
        run = RunFolder(folder, resolved, world.is_main)
        if not run.is_done:
            execute(run, settings, data, splits, world)
            print_summary(run.metrics(), folder.name)
            print_calibration(run.metrics())


def retrieval_step(state: PlanState, step: RetrievalStep, dataset: PreparedDataset, world: World) -> None:
    """Towers of all days but the last, judged on it; the reranker is the run of the same days."""
    settings = state.retrieval_config(step)
    resolved = describe_retrieval(settings, dataset, LAST_DAY)
    reranker = None if step.reranker is None else state.folder(step.reranker, "last_day")
    if reranker is not None:
        resolved["reranker"] = reranker.name
    run = RunFolder(state.folder(step.name), resolved, world.is_main)
    if not run.is_done:
        execute_retrieval(run, settings, dataset, LAST_DAY, world, reranker)
        print_retrieval(run.metrics(), run.folder.name)


def gate_step(state: PlanState, step: GateStep, dataset: PreparedDataset) -> None:
    """A verdict, kept; the first stands where no other run was asked for."""
    if not state.is_decided(step.gate):
        verdict = judge(state, step.gate, dataset)
        state.keep(verdict)
        print_verdict(verdict)


def print_verdict(verdict: Verdict) -> None:
    """Says what a gate decided, and on which numbers."""
    style = {"adopt": "green", "retry": "yellow", "reject": "red"}[verdict.outcome]
    console.print(f"gate {verdict.gate}: [{style}]{verdict.outcome}[/{style}]  {verdict.reason}")
    for check in verdict.checks:
        value = "missing" if check.value is None else f"{check.value:+.5f}"
        interval = "" if check.low is None else f" ({check.low:+.5f} .. {check.high:+.5f})"
        console.print(
            f"  {'pass' if check.passed else 'fail'}  {check.what} {value}{interval}, wanted {check.threshold}"
        )


def ensemble_step(state: PlanState, step: EnsembleStep) -> None:
    """The finished members stacked over the folds; the same stack, of the other days' rows, on the last day."""
    folders = [folder for name in step.members if is_done(folder := state.folder(name))]
    if len(folders) < 2:
        raise InputError(f"step {step.name}: fewer than two of its members were finished ({', '.join(step.members)})")
    bootstrap = state.plan.bootstrap
    was_done = is_done(state.folder(step.name))
    run = build_ensemble(folders, state.folder(step.name), replicates=bootstrap.replicates, seed=bootstrap.seed)
    if not was_done:
        print_ensemble(run.metrics())
        print_calibration(run.metrics())
    if all(is_done(state.folder(name, "last_day")) for name in step.members if is_done(state.folder(name))):
        stack_last_day(state, step, run)


def stack_last_day(state: PlanState, step: EnsembleStep, ensemble: RunFolder) -> None:
    """The ensemble on the last day: its members' last-day runs, joined by weights that saw no row of that day."""
    names = [name for name in step.members if is_done(state.folder(name))]
    method = ensemble.metrics()["method"]
    folders = {judged: [state.folder(name, judged) for name in names] for judged in ("folds", "last_day")}
    config = {"model": {"name": "ensemble", "method": method}, "members": [f.name for f in folders["last_day"]]}
    run = RunFolder(state.folder(step.name, "last_day"), config)
    if run.is_done:
        return
    folds, last = (join_predictions([read_predictions(f) for f in folders[judged]]) for judged in folders)
    judged, stack = members_of(last), stack_of_earlier_rows(method, folds, last)
    natural = stack.natural_logit(judged.logits)
    parts = parts_of(judged.fold, judged.label, natural, judged.balance)
    by_part = {part.name: measure_part(part) for part in parts}
    metrics = {
        "overall": judged.measure(natural).model_dump(),
        "folds": {name: found.model_dump() for name, found in by_part.items()},
        "spread": spread(list(by_part.values())),
        "segments": {},
        "method": method,
        "calibration": calibrate_parts(run, parts),
        "train": {
            "fits": {
                part.name: {"link": asdict(LogitLink(1.0, float(np.exp(judged.balance[part.rows[0]]))))}
                for part in parts
            }
        },
    }
    write_json(run.file(STACK_FILE), stack.model_dump(mode="json"))
    run.finish(metrics, parts, last[0].row_id.take(pa.array(np.concatenate([part.rows for part in parts]))))


def stack_of_earlier_rows(method: StackMethod, folds: list[Predictions], last: list[Predictions]) -> Stack:
    """A stack fitted to the out-of-fold rows that are not among the last day's."""
    earlier = np.flatnonzero(~np.asarray(pc.is_in(folds[0].row_id, value_set=last[0].row_id)))
    fitted = members_of([each.take(earlier) for each in folds])
    return fit_stack(method, [each.name for each in last], fitted.logits, fitted.label)


def submission_step(state: PlanState, step: FinalStep, dataset: PreparedDataset, final: Path) -> None:
    """The submission for the data's test files, if there are any, beside the final run."""
    manifest, out = dataset.manifest, state.out / SUBMISSION_FILE
    if not manifest.test_files:
        console.print("the data names no test files: nothing to submit")
        return
    if out.exists() and out.with_suffix(".json").exists():
        return
    out.unlink(missing_ok=True)  # cut before it could tell of itself
    labels = Path(manifest.truth_file) if manifest.truth_file and Path(manifest.truth_file).is_file() else None
    test = [Path(path) for path in manifest.test_files]
    submit(run=final, test=test, out=out, data=dataset.folder, sample=None, labels=labels, scale=state.plan.scale)
