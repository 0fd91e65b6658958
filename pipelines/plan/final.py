"""The final step of a plan: retrains the best run on all rows, to score new rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from pipelines.common.config import RankConfig
from pipelines.parts.ranking_defaults import resolve_settings
from pipelines.plan.config import FinalStep, RankStep, RetrievalStep
from pipelines.plan.final_scores import score_all_rows, steps_with_score
from pipelines.plan.state import PlanState
from pipelines.rank import describe, execute
from ranking.scoring import read_calibration
from ranking.trees.config import GBDTConfig, GBDTTrainerConfig
from recsys.config import validate
from recsys.data.dataset import PreparedDataset
from recsys.data.split import FULL
from recsys.errors import InputError
from recsys.evaluation.calibration.calibrator import Calibrator, RunCalibration
from recsys.evaluation.stacking import Stack
from recsys.evaluation.verdicts.verdict import best_run
from recsys.runs.config import RUN_SECTION
from recsys.runs.folder import RunFolder
from recsys.runs.layout import CALIBRATION_FILE, STACK_FILE
from recsys.runs.metrics import FinalMetrics, RunMetrics, StackSummary, read_metrics
from recsys.runs.score_feature import with_scores
from recsys.system.files import is_done, read_json, write_json
from recsys.system.world import World
from recsys.training.config import TrainerConfig

_NEGLIGIBLE_WEIGHT = 1e-6


def choose_best(state: PlanState, step: FinalStep) -> str:
    """The run or ensemble with the highest score among those that no gate rejected.

    Raises:
        InputError: when none of them is finished.
    """
    rejected = state.rejected()
    names, rows = [name for name in step.best_of if name not in rejected], state.resolve(step.evaluate_on)
    best = best_run({name: state.score(name, rows) for name in names}, names)
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
    """Trains the models of the best run on all rows and writes the final run folder, which scores with them.

    Where a gate adopted a retrieval score, the model that reads it takes the place of the same model without it.
    """
    best = choose_best(state, step)
    stack, members = members_of(state, best)
    folders = {member: retrain_one(state, step, name, dataset, world) for member, name in members.items()}
    run = RunFolder(state.folder(step.name), {"model": {"name": "final"}, "best": best, "members": members})
    if run.is_done:
        return run.folder
    rows = state.resolve(step.evaluate_on)
    estimated = read_metrics(state.folder(best, rows))
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
        estimated_on=state.folder(best, rows).name,
        weights=dict(zip(stack.members, stack.weights, strict=True)) if stack.method != "rank_mean" else None,
    )
    run.finish(metrics, [], dataset.store.row_ids(np.zeros(0, np.int64)))
    return run.folder


def calibration_of(state: PlanState, best: str, members: dict[str, str]) -> RunCalibration:
    """The calibrators of the evaluated runs: of each member, and of the best run if it is an ensemble of them."""
    by_member = {member: read_calibration(_evaluated(state, name)).calibrator for member, name in members.items()}
    is_ensemble = (state.folder(best) / STACK_FILE).is_file()
    output = read_calibration(state.folder(best)).calibrator if is_ensemble else Calibrator()
    return RunCalibration(calibrator=output, by_member=by_member)


def retrain_one(state: PlanState, step: FinalStep, name: str, dataset: PreparedDataset, world: World) -> Path:
    """Trains a model on all rows, for the mean best number of epochs of its evaluated fits.

    A model with a retrieval score that a gate adopted takes the place of the same model without it.
    """
    rank_step = _step_of(state, name)
    settings = resolve_settings(state.rank_config(rank_step), dataset, [FULL], world)
    settings = fixed_length(settings, read_metrics(_evaluated(state, name)))
    resolved = describe(settings, dataset, [FULL])
    if rank_step.features_of is not None:
        source = state.plan.named(rank_step.features_of)
        assert isinstance(source, RetrievalStep)
        scored = with_scores(dataset, score_all_rows(state, step, source, dataset, world), [FULL])
        dataset, resolved[RUN_SECTION]["score_feature"] = scored.dataset, scored.feature.model_dump()
    run = RunFolder(state.out / f"{step.step}-{step.name}-{rank_step.name}", resolved, world.is_main)
    if not run.is_done:
        with run.removed_if_refused():
            execute(run, settings, dataset, [FULL], world)
    return run.folder


def _step_of(state: PlanState, name: str) -> RankStep:
    """The step of a member of the final model: the same model with a retrieval score, if a gate adopted it."""
    step = steps_with_score(state).get(name) or state.plan.named(name)
    assert isinstance(step, RankStep)
    return step


def _evaluated(state: PlanState, name: str) -> Path:
    """The first finished run folder of a member's step, which is that of the folds where it has one."""
    return next(folder for _, folder in state.fits(_step_of(state, name)) if is_done(folder))


def fixed_length(settings: RankConfig, metrics: RunMetrics) -> RankConfig:
    """The same settings without early stopping, for the mean best number of epochs (or trees) of the fold fits.

    The linear part of a deep model has the mean of its shares.
    """
    fits = metrics.train_summary.fits.values()
    n_epochs = max(1, round(float(np.mean([fit.best_epoch + 1 for fit in fits]))))
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
    share = float(np.mean([fit.linear_share for fit in fits]))
    changes = {"early_stopping": None, "stop_after": n_epochs, "linear_share": round(share, 3)}
    return replace(settings, trainer=trainer.model_copy(update=changes))
