"""Config of a plan: its steps in order, and the gates between them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipelines.common.cli import packaged_config
from ranking.models import ModelName
from recsys.config import StrictModel, load_yaml, validate
from recsys.errors import InputError
from recsys.evaluation.gates import EvaluateOnOrAuto, Gate, RetrievalGate, RunGate
from recsys.patterns import nearest
from recsys.runs.submission import ChosenScale

SweepChoice = Literal["simplest", "best"]
Settings = tuple[str, ...]
"""KEY=VALUE overrides, as on a command line."""


class _Step(StrictModel):
    step: Annotated[int, Field(ge=1)]
    """Number in the plan; several steps can have the same number."""
    name: Annotated[str, Field(pattern=r"^[a-z0-9_][a-z0-9_-]*$")]
    """Name of the run; its run folder is STEP-NAME."""


class PrepareStep(_Step):
    """Finds or generates the data, and prepares it."""

    do: Literal["prepare"]
    name: Annotated[str, Field(pattern=r"^[a-z0-9_][a-z0-9_-]*$")] = "data"


class RankStep(_Step):
    """Trains a ranking model, evaluated on each of the given kinds of rows."""

    renamed_keys = {"judged": "evaluate_on"}

    do: Literal["rank"]
    model: ModelName
    set: Settings = ()
    best_of: str | None = None
    """A sweep that sets this step's settings, see `sweep_choice`: by the tuning part, or, without one, by the rows of
    early stopping."""
    select_by: str | None = None
    """A rank step with a run on the tuning part: this step leaves out the features without which that run loses
    nothing there, besides those that the config leaves out."""
    features_of: str | None = None
    """A retrieval run whose score is added as a feature."""
    evaluate_on: Annotated[tuple[EvaluateOnOrAuto, ...], Field(min_length=1)] = ("folds", "auto")
    """Folds serve stacking and the calibration of the final model; gates judge on the rows that they name."""


class SweepStep(_Step):
    """Searches settings of a model on the tuning part, or, without one, on one fold."""

    do: Literal["sweep"]
    model: ModelName
    over: Annotated[Settings, Field(min_length=1)]
    """Arguments of `pipelines.sweep`: KEY=A,B,C, or KEY=VALUE for all trials."""
    fold: Annotated[int, Field(ge=0)] = 0
    """The fold to search on if the data has no tuning part."""


class RetrievalStep(_Step):
    """Trains the two-tower model, indexes the items and writes candidates."""

    do: Literal["retrieval"]
    set: Settings = ()
    reranker: str | None = None
    """The ranking run that reranks the candidates."""


class GateStep(StrictModel):
    """Evaluates a gate."""

    step: Annotated[int, Field(ge=1)]
    do: Literal["gate"]
    gate: str


class EnsembleStep(_Step):
    """Stacks finished runs; members that no gate requested are not trained, and are left out."""

    do: Literal["ensemble"]
    members: Annotated[tuple[str, ...], Field(min_length=2)]


class FinalStep(_Step):
    """Retrains the best run on all rows and writes the submission."""

    do: Literal["final"]
    best_of: Annotated[tuple[str, ...], Field(min_length=1)]
    """Runs and ensembles to choose from: the highest score among those that no gate rejected."""
    evaluate_on: EvaluateOnOrAuto = "auto"
    """The rows that they are scored on."""


Step = Annotated[
    PrepareStep | RankStep | SweepStep | RetrievalStep | GateStep | EnsembleStep | FinalStep,
    Field(discriminator="do"),
]


class Bootstrap(StrictModel):
    """Settings of the bootstrap intervals."""

    replicates: Annotated[int, Field(ge=100)] = 1000
    seed: Annotated[int, Field(ge=0)] = 0


class PlanConfig(StrictModel):
    """A plan of steps and gates."""

    name: str
    config: str | None = None
    """YAML config of the data and the models; the path is relative to the plan file. null: the config that the prepared
    data set of `--data` was prepared with."""
    batch_size: Annotated[int, Field(ge=1)] = 65_536
    large_batch_size: Annotated[int, Field(ge=1)] = 262_144
    """Batch sizes that steps can use, as ${batch_size} and ${large_batch_size}."""
    set: Settings = ()
    """Overrides of all steps."""
    models: dict[ModelName, Settings] = {}
    """Overrides of all steps of a model."""
    reference: str
    """The run that the report compares all other runs with."""
    scale: ChosenScale = "auto"
    """Scale of the submission and the bundle: `auto` is q for runs that are chosen by WLL or the Toss score, otherwise
    p."""
    seeds: Annotated[int, Field(ge=1)] = 1
    """Fits of every ranking step that differ in their seed alone: gates judge their mean, the submission averages them.
    """
    sweep_choice: SweepChoice = "simplest"
    """The trial of a sweep whose settings `best_of` takes: the best one, or the one with the fewest weights that is no
    worse than the best by more than one standard error, because the best of many trials on few clicks is so by chance.
    """
    bootstrap: Bootstrap = Bootstrap()
    multiplicity: Literal["none", "holm"] = "none"
    """holm: the last step may only choose what the gates adopt after Holm's correction for all their comparisons."""
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    gates: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], Gate] = {}

    @model_validator(mode="after")
    def _check_names(self) -> "PlanConfig":
        earlier: dict[str, Step] = {}
        last = 1
        for step in self.steps:
            if step.step < last:
                raise ValueError(f"step {step.step} comes after step {last}: sort the steps by number")
            last = step.step
            if isinstance(step, GateStep):
                if step.gate not in self.gates:
                    raise ValueError(f"step {step.step}: unknown gate {step.gate!r}{nearest(step.gate, self.gates)}")
                required = list(_runs_of(self.gates[step.gate]))
            elif step.name in earlier:
                raise ValueError(f"two steps have the name {step.name!r}: rename one of them")
            else:
                required = list(_runs_before(step))
            for name in required:
                if name not in earlier:
                    title = f"gate {step.gate}" if isinstance(step, GateStep) else f"step {step.name!r}"
                    raise ValueError(f"{title}: no earlier step has the name {name!r}{nearest(name, earlier)}")
            if isinstance(step, RankStep) and step.select_by is not None:
                self._check_selecting(step, earlier[step.select_by])
            if not isinstance(step, GateStep):
                earlier[step.name] = step
        for name, gate in self.gates.items():
            if (retry := getattr(gate, "retry", None)) is not None and retry not in earlier:
                raise ValueError(f"gate {name}: retry: no step has the name {retry!r}{nearest(retry, earlier)}")
        if self.reference not in earlier:
            raise ValueError(f"reference: no step has the name {self.reference!r}{nearest(self.reference, earlier)}")
        return self

    def _check_selecting(self, step: RankStep, by: Step) -> None:
        is_by_run = isinstance(by, RankStep) and by.features_of is None and "tuning" in by.evaluate_on
        if not is_by_run or self.gate_of_retry(step.select_by or "") is not None:
            raise ValueError(
                f"step {step.name!r}: select_by: {step.select_by!r} is no rank step that always has a run on the "
                "tuning part: name a step with tuning in its evaluate_on, without features_of, and no gate's retry"
            )

    def named(self, name: str) -> Step:
        """The step with a name."""
        return next(step for step in self.steps if not isinstance(step, GateStep) and step.name == name)

    def gate_of_retry(self, name: str) -> str | None:
        """The name of the gate whose `retry` is this run; None if the run is not a retry."""
        return next((key for key, gate in self.gates.items() if getattr(gate, "retry", None) == name), None)


def _runs_of(gate: Gate) -> tuple[str, ...]:
    """The runs that a gate compares at first; `retry` is not among them, as it is trained after the first verdict."""
    if isinstance(gate, RunGate):
        return (gate.run,)
    retrieval = (gate.retrieval,) if isinstance(gate, RetrievalGate) else ()
    return (*retrieval, gate.candidate, *gate.baselines)


def _runs_before(step: Step) -> tuple[str, ...]:
    match step:
        case RankStep():
            return tuple(name for name in (step.best_of, step.select_by, step.features_of) if name is not None)
        case RetrievalStep():
            return (step.reranker,) if step.reranker else ()
        case EnsembleStep():
            return step.members
        case FinalStep():
            return step.best_of
        case _:
            return ()


def load_plan(path: Path, overrides: tuple[str, ...]) -> PlanConfig:
    """Reads a plan file and applies overrides: of the plan's own keys to the plan, all others to every step.

    Raises:
        InputError: for an unknown key, a wrong value, or a run that no earlier step creates.
    """
    plan_keys = set(PlanConfig.model_fields)
    plan_overrides = [override for override in overrides if override.split("=")[0].split(".")[0] in plan_keys]
    step_overrides = tuple(override for override in overrides if override not in plan_overrides)
    for override in step_overrides:
        if "=" not in override:
            raise InputError(f"override {override!r} must be KEY=VALUE, such as trainer.epochs=3")
    plan = validate(PlanConfig, load_yaml(path, plan_overrides, packaged_config), str(path))
    config = plan.config
    if config is not None:
        beside = path.parent / config
        config = str(((None if beside.exists() else packaged_config(Path(config))) or beside).resolve())
    return plan.model_copy(update={"config": config, "set": (*plan.set, *step_overrides)})
