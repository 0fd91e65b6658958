"""Checks that the runs of a plan are evaluated on the rows that its gates and later steps read."""

from pipelines.plan.config import EnsembleStep, FinalStep, PlanConfig, RankStep, RetrievalStep
from pipelines.plan.rows import TITLES, MissingRows
from recsys.errors import InputError
from recsys.evaluation.gates import (
    CalibrationGate,
    ComparisonGate,
    DistributionGate,
    EvaluateOn,
    LatencyGate,
    MemoryGate,
)


def check_rows(plan: PlanConfig, missing: MissingRows) -> None:
    """Checks what each gate and step reads; rows that the data set lacks are skipped, as nothing reads them.

    Raises:
        InputError: for the first run that is read on rows that it is not evaluated on.
    """
    for name, gate in plan.gates.items():
        if isinstance(gate, CalibrationGate | LatencyGate | MemoryGate):
            continue
        rows = missing.resolve(gate.evaluate_on)
        if isinstance(gate, DistributionGate):
            _check(plan, missing, f"gate {name}", gate.run, rows)
            continue
        retry = (gate.retry,) if isinstance(gate, ComparisonGate) and gate.retry is not None else ()
        for run in (gate.candidate, *gate.baselines, *retry):
            _check(plan, missing, f"gate {name}", run, rows)
    for step in plan.steps:
        match step:
            case RetrievalStep() if step.reranker is not None:
                _check(plan, missing, f"step {step.name!r}, which reranks,", step.reranker, "holdout")
            case EnsembleStep():
                _check(plan, missing, f"step {step.name!r}", step.name, "folds")
            case FinalStep():
                for name in step.best_of:
                    _check(plan, missing, f"step {step.name!r}", name, missing.resolve(step.evaluate_on))
            case _:
                pass


def _check(plan: PlanConfig, missing: MissingRows, reader: str, name: str, rows: EvaluateOn) -> None:
    """Checks a run, or the members of an ensemble."""
    if missing.reason(rows) is not None:
        return
    step = plan.named(name)
    if isinstance(step, EnsembleStep) and rows == "tuning":
        raise InputError(f"{reader} reads the ensemble {name!r} on the tuning part: ensembles have no run on it")
    for member in step.members if isinstance(step, EnsembleStep) else (name,):
        run = plan.named(member)
        if isinstance(run, RankStep) and rows not in missing.resolve_all(run.evaluate_on):
            raise InputError(
                f"{reader} reads {member!r} on {rows!r} ({TITLES[rows]}), which the step's evaluate_on does not list: "
                f"add {rows}, or auto, to it"
            )
