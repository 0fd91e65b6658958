"""What a plan file says: steps in their order, and the gates between them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ranking.models import ModelName
from recsys.config import StrictModel, load_yaml, validate
from recsys.errors import InputError
from recsys.evaluation.gates import CalibrationGate, DistributionGate, EvaluateOn, Gate, RetrievalGate
from recsys.patterns import nearest

Settings = tuple[str, ...]
"""Overrides, as a command line says them."""


class _Step(StrictModel):
    step: Annotated[int, Field(ge=1)]
    """Which of the plan's nine steps it belongs to."""
    name: Annotated[str, Field(pattern=r"^[a-z0-9_][a-z0-9_-]*$")]
    """Its run folder is STEP-NAME."""


class PrepareStep(_Step):
    """The data: found or generated, and prepared."""

    do: Literal["prepare"]
    name: Annotated[str, Field(pattern=r"^[a-z0-9_][a-z0-9_-]*$")] = "data"


class RankStep(_Step):
    """A ranking model, out-of-fold, and again without the last day."""

    renamed_keys = {"judged": "evaluate_on"}

    do: Literal["rank"]
    model: ModelName
    set: Settings = ()
    best_of: str | None = None
    """A sweep whose best point is taken over: the one that early stopping's rows liked best."""
    features_of: str | None = None
    """A retrieval run whose scores are read as a feature."""
    evaluate_on: Annotated[tuple[EvaluateOn, ...], Field(min_length=1)] = ("folds", "holdout")
    takes_settings: bool = True
    """Whether what gates adopted before goes with it."""


class SweepStep(_Step):
    """Settings of a model, searched on one fold."""

    do: Literal["sweep"]
    model: ModelName
    over: Annotated[Settings, Field(min_length=1)]
    """As `pipelines.sweep` takes them: KEY=A,B,C, or KEY=VALUE for all."""
    fold: Annotated[int, Field(ge=0)] = 0


class RetrievalStep(_Step):
    """The two-tower model, its index and its candidates."""

    do: Literal["retrieval"]
    set: Settings = ()
    reranker: str | None = None
    """The ranking run that scores the candidates anew."""


class GateStep(StrictModel):
    """A decision."""

    step: Annotated[int, Field(ge=1)]
    do: Literal["gate"]
    gate: str


class EnsembleStep(_Step):
    """Finished runs stacked; those that were not trained, as their gate did not ask for them, are left out."""

    do: Literal["ensemble"]
    members: Annotated[tuple[str, ...], Field(min_length=2)]


class FinalStep(_Step):
    """The best, trained once more on all rows, and the submission."""

    do: Literal["final"]
    best_of: Annotated[tuple[str, ...], Field(min_length=1)]
    """Runs and ensembles to choose from: those that no gate rejected, by their score."""


Step = Annotated[
    PrepareStep | RankStep | SweepStep | RetrievalStep | GateStep | EnsembleStep | FinalStep,
    Field(discriminator="do"),
]


class Bootstrap(StrictModel):
    """How intervals are found."""

    replicates: Annotated[int, Field(ge=100)] = 1000
    seed: Annotated[int, Field(ge=0)] = 0


class PlanConfig(StrictModel):
    """A plan."""

    name: str
    config: str
    """The YAML config of data and models, relative to the plan's file."""
    batch_size: Annotated[int, Field(ge=1)] = 65_536
    large_batch_size: Annotated[int, Field(ge=1)] = 262_144
    """Sizes that steps refer to, as ${batch_size}."""
    set: Settings = ()
    """Overrides that all steps share."""
    models: dict[ModelName, Settings] = {}
    """Overrides that all steps of a model share."""
    reference: str
    """The run that the report sets all others against."""
    scale: Literal["balanced", "natural"] = "balanced"
    """Of the submission."""
    bootstrap: Bootstrap = Bootstrap()
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    gates: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], Gate] = {}

    @model_validator(mode="after")
    def _names_are_known(self) -> "PlanConfig":
        seen: dict[str, Step] = {}
        last = 1
        for step in self.steps:
            if step.step < last:
                raise ValueError(f"step {step.step} comes after step {last}: bring the steps into their order")
            last = step.step
            if isinstance(step, GateStep):
                if step.gate not in self.gates:
                    raise ValueError(f"step {step.step} asks for gate {step.gate!r}{nearest(step.gate, self.gates)}")
                wanted = list(_runs_of(self.gates[step.gate]))
            elif step.name in seen:
                raise ValueError(f"two steps are named {step.name!r}: give one another name")
            else:
                wanted = list(_runs_before(step))
            for name in wanted:
                if name not in seen:
                    what = f"gate {step.gate}" if isinstance(step, GateStep) else f"step {step.name!r}"
                    raise ValueError(f"{what} names {name!r}, which no step before it makes{nearest(name, seen)}")
            if not isinstance(step, GateStep):
                seen[step.name] = step
        for name, gate in self.gates.items():
            if (retry := getattr(gate, "retry", None)) is not None and retry not in seen:
                raise ValueError(f"gate {name} would try {retry!r}, which no step makes{nearest(retry, seen)}")
        if self.reference not in seen:
            raise ValueError(f"reference names {self.reference!r}, which no step makes{nearest(self.reference, seen)}")
        return self

    def named(self, name: str) -> Step:
        """The step of a name."""
        return next(step for step in self.steps if not isinstance(step, GateStep) and step.name == name)

    def is_retry(self, name: str) -> str | None:
        """The gate that may ask for a run in its candidate's place."""
        return next((gate for gate, found in self.gates.items() if getattr(found, "retry", None) == name), None)


def _runs_of(gate: Gate) -> tuple[str, ...]:
    """The runs that a gate measures; one that may be tried instead is trained after the first verdict."""
    if isinstance(gate, DistributionGate | CalibrationGate):
        return (gate.run,)
    more = (gate.retrieval,) if isinstance(gate, RetrievalGate) else ()
    return (*more, gate.candidate, *gate.baselines)


def _runs_before(step: Step) -> tuple[str, ...]:
    match step:
        case RankStep():
            return tuple(name for name in (step.best_of, step.features_of) if name is not None)
        case RetrievalStep():
            return (step.reranker,) if step.reranker else ()
        case EnsembleStep():
            return step.members
        case FinalStep():
            return step.best_of
        case _:
            return ()


def load_plan(path: Path, overrides: tuple[str, ...]) -> PlanConfig:
    """Reads a plan file; overrides of the plan's own keys count over it, all others go to every step.

    Raises:
        InputError: for an unknown key, a wrong value, or a run that is named before it is made.
    """
    own = set(PlanConfig.model_fields)
    mine = [override for override in overrides if override.split("=")[0].split(".")[0] in own]
    others = tuple(override for override in overrides if override not in mine)
    for override in others:
        if "=" not in override:
            raise InputError(f"override {override!r} must be KEY=VALUE, such as trainer.epochs=3")
    plan = validate(PlanConfig, load_yaml(path, mine), str(path))
    config = (path.parent / plan.config).resolve()
    return plan.model_copy(update={"config": str(config), "set": (*plan.set, *others)})
