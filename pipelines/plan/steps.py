"""Runs the steps of a plan; finished steps are skipped."""

from pathlib import Path

from pipelines.common.splits import choose_splits
from pipelines.ensemble import build_ensemble, print_ensemble
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
from pipelines.plan.evaluation.gates import evaluate_gate
from pipelines.plan.final import retrain
from pipelines.plan.final_scores import members_with_score
from pipelines.plan.later_ensemble import stack_later_rows
from pipelines.plan.rows import FOLDS_OPTION, towers_split
from pipelines.plan.selection import select_features
from pipelines.plan.state import PlanState
from pipelines.rank import describe, execute
from pipelines.retrieval import describe as describe_retrieval
from pipelines.retrieval import execute as execute_retrieval
from pipelines.submit import submit
from pipelines.sweep import has_trials, run_sweep
from ranking.scoring import find_run_data
from recsys.data.dataset import PreparedDataset
from recsys.data.split import HOLDOUT
from recsys.errors import InputError
from recsys.evaluation.verdicts.verdict import STYLES, Verdict
from recsys.runs.calibration import print_calibration
from recsys.runs.config import RUN_SECTION
from recsys.runs.folder import RunFolder
from recsys.runs.metrics import EnsembleMetrics
from recsys.runs.score_feature import with_scores
from recsys.runs.submission import resolve_scale
from recsys.runs.summary import print_summary
from recsys.system.files import finish_folder, is_done, partial_folder, read_json, removed_if_refused, write_json
from recsys.system.progress import console
from recsys.system.world import World
from retrieval.evaluation.summary import RetrievalMetrics
from retrieval.evaluation.table import print_retrieval
from serving.export.run import export_run

DATA_FILE = "data.json"
SUBMISSION_FILE = "submission.csv"
BUNDLE_FOLDER = "bundle"


def run_step(state: PlanState, step: Step, dataset: PreparedDataset, world: World) -> None:
    """Runs a step."""
    match step:
        case PrepareStep():
            describe_data(state, step, dataset)
        case RankStep():
            rank_step(state, step, dataset, world)
        case SweepStep():
            settings, folder = state.sweep_settings(step), state.folder(step.name)
            splits = choose_splits(dataset, state.sweep_folds(step))
            with removed_if_refused(folder, lambda: has_trials(folder)):
                run_sweep(step.model, settings, state.config, dataset, splits, folder, world)
        case RetrievalStep():
            retrieval_step(state, step, dataset, world)
        case GateStep():
            gate_step(state, step, dataset, world)
        case EnsembleStep():
            ensemble_step(state, step)
        case FinalStep():
            final = retrain(state, step, dataset, world)
            submission_step(state, step, dataset, final)
            export_step(state, dataset, final, world)


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
    """Trains and evaluates a model on each kind of rows of the step."""
    if step.select_by is not None:
        with world.main_first():
            if world.is_main:
                select_features(state.folder(step.select_by, "tuning"), dataset)
    for evaluate_on, folder in state.fits(step):
        splits, data = choose_splits(dataset, FOLDS_OPTION[evaluate_on]), dataset
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
            print_calibration(run.metrics())


def retrieval_step(state: PlanState, step: RetrievalStep, dataset: PreparedDataset, world: World) -> None:
    """Trains and evaluates towers; on the last day, if there are days, with the reranker's run on the same split."""
    split = towers_split(dataset)
    assert split is not None, "the step is not applicable"
    settings = with_defaults(state.retrieval_config(step), dataset.split(split), world.device.type)
    resolved = describe_retrieval(settings, dataset, split)
    has_reranker = split == HOLDOUT and step.reranker is not None and step.reranker not in state.not_applicable.steps
    reranker = state.folder(step.reranker, "holdout") if step.reranker is not None and has_reranker else None
    if reranker is not None:
        resolved[RUN_SECTION]["reranker"] = str(reranker)
    run = RunFolder(state.folder(step.name), resolved, world.is_main)
    if not run.is_done:
        with run.removed_if_refused():
            execute_retrieval(run, settings, dataset, split, world, reranker)
        print_retrieval(run.metrics_as(RetrievalMetrics), run.folder.name)


def gate_step(state: PlanState, step: GateStep, dataset: PreparedDataset, world: World) -> None:
    """Evaluates a gate and saves the verdict; skips a decided gate."""
    if not state.is_decided(step.gate):
        verdict = evaluate_gate(state, step.gate, dataset, world)
        state.keep(verdict)
        print_verdict(verdict, state.n_looks)


def print_verdict(verdict: Verdict, n_looks: int) -> None:
    """Prints a verdict, its checks with what their intervals are drawn over, and the number of comparisons so far."""
    console.print(f"gate {verdict.gate}: {verdict.outcome}  {verdict.reason}", style=STYLES[verdict.outcome])
    for check in verdict.checks:
        interval = f" ({check.interval_text})" if check.interval_text else ""
        basis = f"; {check.basis_text}" if check.basis_text else ""
        required = f"required {check.threshold}{basis}"
        console.print(f"  {verdict.result_of(check)}  {check.what} {check.value_text}{interval}, {required}")
    if verdict.n_looks:
        console.print(f"  comparisons of this verdict: {verdict.n_looks}, of the plan's gates so far: {n_looks}")


def ensemble_step(state: PlanState, step: EnsembleStep) -> None:
    """Stacks the finished members over the folds, and on later rows with stacks of the rows before them."""
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
        print_calibration(run.metrics())
    stack_later_rows(state, step, run)


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
    scored_members = members_with_score(final)
    if scored_members and not missing:
        console.print(f"{', '.join(scored_members)} read the retrieval score: the prepared test rows are scored")
    test = None if missing or scored_members else files
    submit(run=final, test=test, out=out, data=dataset.folder, sample=None, labels=labels, scale=state.plan.scale)


def export_step(state: PlanState, dataset: PreparedDataset, final: Path, world: World) -> None:
    """Writes the bundle of the final run, which `pipelines.serve` answers requests with, if it can be exported."""
    out = state.out / BUNDLE_FOLDER
    if is_done(out) or not world.is_main:
        return
    gates = {name: [v.model_dump(mode="json") for v in of_gate] for name, of_gate in state.final_verdicts().items()}
    try:
        scale = resolve_scale(state.plan.scale, final)
        export_run(final, find_run_data(final), dataset, out, world, gates, scale=scale)
    except InputError as error:
        console.print(f"no bundle is written: {error}")
