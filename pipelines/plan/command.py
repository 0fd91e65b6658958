"""Runs a plan from the data to the submission: models, gates, ensemble, calibration, training on all rows.

python -m pipelines.plan --out runs/plan
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import yaml

from pipelines.common.cli import CONFIGS, Overrides, find_config
from pipelines.common.data import find_prepared, stored_config
from pipelines.common.splits import choose_splits
from pipelines.parts.search_space import parse_space
from pipelines.plan.applicable import find_not_applicable
from pipelines.plan.check_rows import check_rows
from pipelines.plan.config import FinalStep, GateStep, PlanConfig, RankStep, RetrievalStep, Step, SweepStep, load_plan
from pipelines.plan.dry_run.estimates import as_text
from pipelines.plan.dry_run.table import print_dry_run
from pipelines.plan.evaluation.comparisons import check_segmentation
from pipelines.plan.report.gates import looks_text
from pipelines.plan.report.page import write_report
from pipelines.plan.rows import FOLDS_OPTION
from pipelines.plan.state import PlanState
from pipelines.plan.steps import BUNDLE_FOLDER, DATA_FILE, SUBMISSION_FILE, run_step
from pipelines.rank import warn_of_leaks
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.evaluation.gates import SegmentGate
from recsys.evaluation.verdicts.verdict import STYLES
from recsys.report.tables import TextRow, text_table
from recsys.runs.layout import PLAN_STATE_FILE
from recsys.system.allocator import keep_freed_memory
from recsys.system.files import DONE, is_done, removed_if_refused, write_json
from recsys.system.progress import console
from recsys.system.world import World, join_world

PLAN_FILE = "plan.yaml"


def plan(
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML file with the steps and gates. Default: configs/plan_own.yaml for a prepared --data, with the "
            "config it was prepared with; else configs/plan.yaml."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data of all steps, as in pipelines.rank.")] = None,
    out: Annotated[Path, typer.Option(help="Plan folder to write.")] = Path("runs/plan"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print which steps would run, why, and the estimated time, and exit.")
    ] = False,
    overrides: Overrides = None,
) -> Path | None:
    """Run a plan of training steps and decision gates.

    Prints the verdicts of the gates and writes report.html and submission.csv.
    Running the same command again skips finished steps and resumes the
    interrupted one. KEY=VALUE arguments override keys of the plan, or of the
    config in all steps.
    """
    chosen = choose_plan(config, data, tuple(overrides or ()))
    return run_plan(chosen, data, out, dry_run)


def run_plan(chosen: PlanConfig, data: Path | None, out: Path, is_dry: bool = False) -> Path | None:
    """Runs a plan, or prints what would run; skips finished steps.

    Args:
        chosen: the plan.
        data: as in `find_prepared`.
        out: the plan folder to write.
        is_dry: whether to print the steps only.

    Returns:
        The file with the verdicts of the gates; None if nothing ran.

    Raises:
        InputError: for a plan that the data does not allow, before the first step.
    """
    state = PlanState(chosen, out)
    check_settings(state)
    world = join_world()
    if world.size > 1:
        raise InputError("a plan runs in one process: start it without torchrun")
    keep_freed_memory()
    claim(out, chosen, is_writer=False)  # checked before the data is prepared, which may take long
    dataset = find_prepared(state.data_config(), data, state.sections())
    state = replace(state, not_applicable=find_not_applicable(state, dataset))
    check_data(state, dataset)
    if is_dry:
        print_dry_run(state, dataset, world)
        return None
    warn_of_leaks(dataset, dataset.split_names)
    with removed_if_refused(out, lambda: has_runs(out)):
        claim(out, chosen, is_writer=True)
        for step in chosen.steps:
            take_step(state, step, dataset, world)
        finish(state, dataset)
    return out / PLAN_STATE_FILE


def choose_plan(config: Path | None, data: Path | None, overrides: tuple[str, ...]) -> PlanConfig:
    """The plan of `--config`, or the default plan, for the config that its data was prepared with.

    Raises:
        InputError: for an invalid plan, and for a plan without a config on data that stores none.
    """
    stored = None if data is None else stored_config(data)
    default = CONFIGS / ("plan.yaml" if stored is None else "plan_own.yaml")
    path = default if config is None else find_config(config)
    chosen = load_plan(path, overrides)
    names_config = config is not None or any(override.startswith("config=") for override in overrides)
    if stored is not None and (chosen.config is None or not names_config):
        chosen = chosen.model_copy(update={"config": str(stored.resolve())})
    if chosen.config is None:
        raise InputError(f"{path} does not set config: set it to the YAML file of the data, or pass a prepared --data")
    return chosen


def take_step(state: PlanState, step: Step, dataset: PreparedDataset, world: World) -> None:
    """Runs a step, unless no gate requested it or the data set cannot run it."""
    if not isinstance(step, GateStep) and state.is_required(step.name) is False:
        return
    title = f"step {step.step}, {f'gate {step.gate}' if isinstance(step, GateStep) else step.name}"
    console.rule(title, align="left")
    if (reason := state.why_not_applicable(step)) is not None:
        console.print(f"not applicable: {reason}", style="dim")
        return
    start = time.perf_counter()
    run_step(state, step, dataset, world)
    console.print(f"{title}: {as_text(time.perf_counter() - start)}", style="dim")


def has_runs(out: Path) -> bool:
    """Whether a plan folder has a finished run, besides the folder that describes the data."""
    return any(not (done.parent / DATA_FILE).is_file() for done in out.rglob(DONE))


def claim(out: Path, chosen: PlanConfig, is_writer: bool) -> None:
    """Creates the plan folder, or checks that it belongs to the same plan.

    Raises:
        InputError: when the folder holds another plan or other files.
    """
    text = yaml.safe_dump(chosen.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    path = out / PLAN_FILE
    temporary = path.with_suffix(".tmp")  # the only file left by a process that was killed in this function
    if path.is_file():
        if path.read_text(encoding="utf-8") != text:
            raise InputError(f"{out} holds a plan with another config: choose another --out, or remove it")
        return
    if out.exists() and (not out.is_dir() or set(out.iterdir()) - {temporary}):
        raise InputError(f"{out} exists and is not a plan folder: choose another --out, or remove it")
    if is_writer:
        out.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.rename(path)


def check_settings(state: PlanState) -> None:
    """Validates the settings of all steps before the first step runs.

    Raises:
        InputError: for the first invalid setting.
    """
    state.data_config()
    for step in state.plan.steps:
        if isinstance(step, RankStep):
            state.rank_config(step)
        elif isinstance(step, RetrievalStep):
            state.retrieval_config(step)
        elif isinstance(step, SweepStep):
            space = parse_space(state.sweep_settings(step))
            for point in space.grid():
                state.rank_config(step, tuple(space.overrides(point)))


def check_data(state: PlanState, dataset: PreparedDataset) -> None:
    """Raises InputError if the data lacks what the steps and gates of a plan need."""
    check_rows(state.plan, state.not_applicable.missing)
    sources = {step.best_of for step in state.plan.steps if isinstance(step, RankStep)}
    for name, gate in state.plan.gates.items():
        if isinstance(gate, SegmentGate) and name not in state.not_applicable.gates:
            check_segmentation(dataset, gate.segmentation)
    for step in state.plan.steps:
        if isinstance(step, GateStep) or step.name in state.not_applicable.steps:
            continue
        if isinstance(step, RankStep):
            for evaluate_on, _ in state.fits(step):
                choose_splits(dataset, FOLDS_OPTION[evaluate_on])
        elif isinstance(step, SweepStep):
            choose_splits(dataset, state.sweep_folds(step))
            if step.name in sources and state.resolve("tuning") != "tuning":
                _check_monitored(state, step)


def _check_monitored(state: PlanState, step: SweepStep) -> None:
    """Checks that a sweep without a tuning part monitors a metric, which its best point is chosen by."""
    space = parse_space(state.sweep_settings(step))
    for point in space.grid():
        if state.rank_config(step, tuple(space.overrides(point))).trainer.early_stopping is None:
            raise InputError(
                f"step {step.name!r}: without a tuning part, best_of chooses a point by the early-stopping metric: do "
                "not set trainer.early_stopping=null, set prepare.folds.tuning_share, or remove best_of"
            )


def finish(state: PlanState, dataset: PreparedDataset) -> None:
    """Prints the verdicts, writes the report and marks the plan as done."""
    print_gates(state)
    final = next((step for step in state.plan.steps if isinstance(step, FinalStep)), None)
    report = write_report(state, dataset)
    values = {
        "final": state.folder(final.name).name if final is not None and is_done(state.folder(final.name)) else None,
        "gates": {name: [v.model_dump() for v in verdicts] for name, verdicts in state.final_verdicts().items()},
        "comparisons": state.n_looks,
    }
    write_json(state.out / PLAN_STATE_FILE, values)
    (state.out / DONE).touch()
    if (submission := state.out / SUBMISSION_FILE).is_file():
        console.print(f"submission: {submission}")
    if is_done(bundle := state.out / BUNDLE_FOLDER):
        console.print(f"bundle: {bundle}  (python -m pipelines.serve {bundle})")
    console.print(f"report: {report}")


def print_gates(state: PlanState) -> None:
    """Prints the table of verdicts, with what each interval is drawn over, and the number of comparisons."""
    rows, is_adjusted, final = [], state.plan.multiplicity == "holm", state.final_verdicts()
    for name in state.plan.gates:
        if (reason := state.not_applicable.gates.get(name)) is not None:
            rows.append(TextRow((name, "not applicable", "", reason, *[""] * (3 + is_adjusted)), "dim"))
        for verdict in final[name]:
            for number, check in enumerate(verdict.checks):
                head = (name, verdict.outcome, " / ".join(verdict.runs.values())) if number == 0 else ("", "", "")
                figures = [f"{check.what} {check.value_text}", check.interval_text, check.threshold, check.basis_text]
                if is_adjusted:
                    figures.insert(2, "" if check.adjusted_p is None else f"{check.adjusted_p:.2g}")
                rows.append(TextRow((*head, *figures), STYLES[verdict.outcome] if number == 0 else None))
    adjusted = ("Holm p",) if is_adjusted else ()
    columns = ("gate", "verdict", "runs", "measured", "95 % interval", *adjusted, "required", "interval over")
    console.print(text_table("gates", columns, rows, n_left=len(columns)))
    console.print(looks_text(state))
    for name, reason in state.not_applicable.steps.items():
        console.print(f"step {name}: not applicable: {reason}", style="dim")
