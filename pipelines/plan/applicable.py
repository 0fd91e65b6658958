"""Finds the steps and gates of a plan that a data set cannot run, such as those that need days or sequences."""

from collections.abc import Iterable, Mapping, Sequence

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
from pipelines.plan.rows import MissingRows, find_missing_rows
from pipelines.plan.state import NotApplicable, PlanState
from ranking.model_config import DeepModelConfig
from recsys.data.dataset import PreparedDataset
from recsys.evaluation.gates import Gate, RetrievalGate, RunGate, SegmentGate
from recsys.patterns import nearest
from recsys.schema.config import SchemaConfig

_ENCODINGS = "features.encodings=true"
"""A step that sets nothing else differs from another one by the encodings alone."""


def find_not_applicable(state: PlanState, dataset: PreparedDataset) -> NotApplicable:
    """Finds what a data set cannot run of a plan, and what depends on it."""
    schema = dataset.manifest.schema_config
    missing = find_missing_rows(dataset)
    steps: dict[str, str] = {}
    gates: dict[str, str] = {}
    for step in state.plan.steps:
        if isinstance(step, GateStep):
            reason = _gate_reason(state.plan.gates[step.gate], schema, steps, missing)
            if reason is not None:
                gates[step.gate] = reason
        elif (reason := _step_reason(state, step, schema, steps, missing)) is not None:
            steps[step.name] = reason
        elif (gate := state.plan.gate_of_retry(step.name)) in gates:
            steps[step.name] = f"gate {gate} is not applicable"
    return NotApplicable(steps, gates, missing)


def _step_reason(
    state: PlanState, step: Step, schema: SchemaConfig, steps: Mapping[str, str], missing: MissingRows
) -> str | None:
    """Why a step cannot run; None if it can. `steps` has the reasons of earlier steps."""
    match step:
        case RankStep() | SweepStep():
            if schema.label is None:
                return "the schema has no label"
            model = state.rank_config(step).model
            if isinstance(model, DeepModelConfig):
                missing_roles = model.missing_roles(schema.sequences, schema.target_item)
                if missing_roles:
                    return _without(missing_roles)
            if isinstance(step, RankStep):
                if step.features_of is not None and step.features_of in steps:
                    return steps[step.features_of]
                if step.select_by is not None and (reason := steps.get(step.select_by) or missing.tuning) is not None:
                    return reason
                if step.set == (_ENCODINGS,) and not schema.encodings:
                    return "the schema has no encodings"
                return _first(missing.reason(rows) for rows in missing.resolve_all(step.evaluate_on))
            return None
        case RetrievalStep():
            return _without(state.retrieval_config(step).missing_roles) or missing.towers
        case EnsembleStep():
            n_members = sum(name not in steps for name in step.members)
            return f"it needs two members, and only {n_members} can run" if n_members < 2 else None
        case FinalStep():
            return _first(steps.get(name) for name in step.best_of)
        case PrepareStep() | GateStep():
            return None


def _gate_reason(gate: Gate, schema: SchemaConfig, steps: Mapping[str, str], missing: MissingRows) -> str | None:
    """Why a gate cannot be evaluated; None if it can. `steps` has the reasons of earlier steps."""
    if isinstance(gate, RunGate):
        return steps.get(gate.run)
    reasons = [steps.get(gate.candidate), missing.reason(missing.resolve(gate.evaluate_on))]
    reasons += [steps.get(gate.retrieval)] if isinstance(gate, RetrievalGate) else []
    reasons.append(_first(steps.get(name) for name in gate.baselines))
    if isinstance(gate, SegmentGate) and gate.segmentation not in schema.segments:
        is_misspelt = nearest(gate.segmentation, schema.segments) != ""  # an error, not a property of the data
        reasons.append(None if is_misspelt else f"schema.segments has no {gate.segmentation!r}")
    return next((reason for reason in reasons if reason is not None), None)


def _without(missing: Sequence[str]) -> str | None:
    return f"the schema has no {' and no '.join(missing)}" if missing else None


def _first(reasons: Iterable[str | None]) -> str | None:
    """The first of the reasons if every run has one; None if some run has none."""
    found = list(reasons)
    return None if None in found else found[0]
