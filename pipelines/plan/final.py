"""The final step of a plan: retrains the best run on all rows, to score new rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from pipelines.common.config import RankConfig
from pipelines.parts.ranking_defaults import resolve_settings
from pipelines.plan.config import FinalStep, RankStep
from pipelines.plan.state import PlanState
from pipelines.rank import describe, execute
from ranking.gbdt_config import GBDTConfig, GBDTTrainerConfig
from ranking.scoring import read_calibration
from recsys.config import validate
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.evaluation.calibration.calibrator import Calibrator, RunCalibration
from recsys.evaluation.stacking import Stack
from recsys.evaluation.verdicts import best_run
from recsys.runs.folder import RunFolder
from recsys.runs.layout import CALIBRATION_FILE, STACK_FILE
from recsys.runs.metrics import FinalMetrics, RunMetrics, StackSummary, read_metrics
from recsys.system.files import read_json, write_json
from recsys.system.world import World
from recsys.training.config import TrainerConfig

_NEGLIGIBLE_WEIGHT = 1e-6


def choose_best(state: PlanState, step: FinalStep) -> str:
    """The run or ensemble with the highest score among those that no gate rejected.

    Raises:
        InputError: when none of them is finished.
    """
    rejected = state.rejected()
    names = [name for name in step.best_of if name not in rejected]
    best = best_run({name: state.score(name) for name in names}, names)
    if best is None:
        raise InputError(
            f"step {step.name}: every run of best_of is unfinished or rejected ({', '.join(step.best_of)}): "
            "add another run to best_of"
        )
    return best


def members_of(state: PlanState, best: str) -> tuple[Stack, dict[str, str]]:
    """The stack of the best run, and its members' step names by member name; a single run is its only member."""
    folder = state.folder(best)
    if not (folder / STACK_FILE).is_file():
        stack = Stack(method="logit_mean", members=(folder.name,), is_on_calibrated=True, weights=(1.0,))
        return stack, {folder.name: best}
    stack = validate(Stack, read_json(folder / STACK_FILE), str(folder / STACK_FILE))
    by_folder = {state.folder(step.name).name: step.name for step in state.plan.steps if isinstance(step, RankStep)}
    if stack.method in ("weights", "logistic"):  # members of zero weight need no training
        indices = [index for index, weight in enumerate(stack.weights) if abs(weight) > _NEGLIGIBLE_WEIGHT]
        stack = stack.model_copy(
            update={
                "members": tuple(stack.members[index] for index in indices),
                "weights": tuple(stack.weights[index] for index in indices),
            }
        )
    return stack, {member: by_folder[member] for member in stack.members}


def retrain(state: PlanState, step: FinalStep, dataset: PreparedDataset, world: World) -> Path:
    """Trains the models of the best run on all rows and writes the final run folder, which scores with them."""
    best = choose_best(state, step)
    stack, members = members_of(state, best)
    folders = {member: retrain_one(state, step, name, dataset, world) for member, name in members.items()}
    run = RunFolder(state.folder(step.name), {"model": {"name": "final"}, "best": best, "members": members})
    if run.is_done:
        return run.folder
    estimated = read_metrics(state.folder(best))
    write_json(run.file(CALIBRATION_FILE), calibration_of(state, best, members).model_dump(mode="json"))
    write_json(run.file(STACK_FILE), stack.model_dump(mode="json"))
    metrics = FinalMetrics(
        overall=estimated.overall,
        raw=estimated.raw,
        folds={},
        segments={},
        train=StackSummary(fits={}),
        named_metrics=estimated.named_metrics,
        calibration=estimated.calibration,
        member_folders={member: str(folder.resolve()) for member, folder in folders.items()},
        best=best,
        estimated_on=state.folder(best).name,
        weights=dict(zip(stack.members, stack.weights, strict=True)) if stack.method != "rank_mean" else None,
    )
    run.finish(metrics, [], dataset.store.row_ids(np.zeros(0, np.int64)))
    return run.folder


def calibration_of(state: PlanState, best: str, members: dict[str, str]) -> RunCalibration:
    """The calibrators of the out-of-fold runs: of each member, and of the best run if it is an ensemble of them."""
    by_member = {member: read_calibration(state.folder(name)).calibrator for member, name in members.items()}
    is_ensemble = (state.folder(best) / STACK_FILE).is_file()
    output = read_calibration(state.folder(best)).calibrator if is_ensemble else Calibrator()
    return RunCalibration(calibrator=output, by_member=by_member)


def retrain_one(state: PlanState, step: FinalStep, name: str, dataset: PreparedDataset, world: World) -> Path:
    """Trains a model on all rows, for the mean best number of epochs of its fold fits."""
    rank_step = state.plan.named(name)
    assert isinstance(rank_step, RankStep)
    estimated = state.metrics(name)
    assert estimated is not None
    settings = fixed_length(resolve_settings(state.rank_config(rank_step), dataset, ["full"], world), estimated)
    run = RunFolder(state.out / f"{step.step}-{step.name}-{name}", describe(settings, dataset, ["full"]), world.is_main)
    if not run.is_done:
        with run.removed_if_refused():
            execute(run, settings, dataset, ["full"], world)
    return run.folder


def fixed_length(settings: RankConfig, metrics: RunMetrics) -> RankConfig:
    """The same settings without early stopping, for the mean best number of epochs (or trees) of the fold fits."""
    n_epochs = max(1, round(float(np.mean([fit.best_epoch + 1 for fit in metrics.train_summary.fits.values()]))))
    model, trainer = settings.model, settings.trainer
    if isinstance(model, GBDTConfig):
        assert isinstance(trainer, GBDTTrainerConfig)
        n_trees = min(model.n_trees, n_epochs * trainer.trees_per_epoch)
        return replace(
            settings,
            model=model.model_copy(update={"n_trees": n_trees}),
            trainer=trainer.model_copy(update={"early_stopping": None}),
        )
    assert isinstance(trainer, TrainerConfig)
    return replace(settings, trainer=trainer.model_copy(update={"early_stopping": None, "stop_after": n_epochs}))
