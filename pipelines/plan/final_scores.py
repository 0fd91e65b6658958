"""Retrieval scores for the final model: towers fitted to all training rows score these rows and the test rows."""

from pathlib import Path

from pipelines.parts.retrieval_defaults import with_defaults
from pipelines.parts.tower_fits import check_score_parts, score_rows
from pipelines.plan.config import FinalStep, RankStep, RetrievalStep
from pipelines.plan.state import PlanState
from pipelines.retrieval import describe
from ranking.scoring import find_run_data
from recsys.data.dataset import PreparedDataset
from recsys.data.split import FULL
from recsys.evaluation.gates import RetrievalGate
from recsys.runs.config import read_run_section
from recsys.runs.folder import RunFolder
from recsys.system.world import World


def steps_with_score(state: PlanState) -> dict[str, RankStep]:
    """The steps that replace others in the final model: those with a retrieval score that a gate adopted.

    By the name of the step without the score, which the gate compared it with.
    """
    replaced: dict[str, RankStep] = {}
    for name, verdicts in state.final_verdicts().items():
        gate = state.plan.gates[name]
        if isinstance(gate, RetrievalGate) and verdicts and verdicts[-1].is_adopted:
            candidate = state.plan.named(gate.candidate)
            gains = [check for check in verdicts[-1].checks if check.requirement == "gain" and check.passed]
            if isinstance(candidate, RankStep) and candidate.features_of is not None:
                replaced |= {check.baseline: candidate for check in gains if check.baseline is not None}
    return replaced


def score_all_rows(
    state: PlanState, final: FinalStep, step: RetrievalStep, dataset: PreparedDataset, world: World
) -> Path:
    """Fits the towers of a retrieval step to parts of all training rows, and writes a run folder with the scores.

    Each training row is scored by towers that were not fitted to it; other rows by the mean of all towers.
    """
    split = dataset.split(FULL)
    settings = with_defaults(state.retrieval_config(step), split, world.device.type)
    run = RunFolder(
        state.out / f"{final.step}-{final.name}-{step.name}", describe(settings, dataset, FULL), world.is_main
    )
    if not run.is_done:
        with run.removed_if_refused():
            check_score_parts(settings.retrieval, dataset, split)
            held_out = list(split.evaluation_rows.values())
            score_rows(run, settings, dataset, split, held_out, split.validation_rows, world)
            run.finish_with_metrics({"data": {"folder": str(dataset.folder.resolve())}})
    return run.folder


def members_with_score(final: Path) -> list[str]:
    """The members of a final run that read a retrieval score, which only rows of the prepared data set have."""
    members = find_run_data(final).members
    return [name for name, folder in members.items() if read_run_section(folder).score_feature is not None]
