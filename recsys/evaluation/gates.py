"""Configuration of decision gates: the criteria for adopting a run. `recsys.evaluation.verdicts` evaluates them."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from recsys.config import StrictModel, warn_of_new_name
from recsys.evaluation.comparison import ComparedMetric
from recsys.evaluation.metrics import metric_name


def _rename_partition(name: Any) -> Any:
    if name == "last_day":
        warn_of_new_name("last_day", "holdout")
        return "holdout"
    return name


EvaluateOn = Annotated[Literal["folds", "holdout"], BeforeValidator(_rename_partition)]
"""The rows a run is evaluated on: all folds, out-of-fold, or the holdout (the last day)."""


class Criterion(StrictModel):
    """The required improvement of a metric: in its own units, or relative to the baseline's value."""

    metric: ComparedMetric
    gain: float | None = None
    """Both a higher AP and a lower WLL are positive gains."""
    relative_gain: float | None = None
    interval: Literal["above_zero", "reported"] = "above_zero"

    @field_validator("metric", mode="before")
    @classmethod
    def _rename_metric(cls, metric: Any) -> Any:
        return metric_name(metric)

    @model_validator(mode="after")
    def _check_one_threshold(self) -> "Criterion":
        if (self.gain is None) == (self.relative_gain is None):
            raise ValueError(f"a criterion on {self.metric!r} takes gain or relative_gain: give one of the two")
        return self


class _Gate(StrictModel):
    renamed_keys = {"says": "description", "judged": "evaluate_on"}

    description: str = ""
    """What the gate decides, in words; shown in the report."""


class ComparisonGate(_Gate):
    """Compares a run with the best of its baselines; one met criterion is enough."""

    kind: Literal["comparison"]
    candidate: str
    baselines: Annotated[tuple[str, ...], Field(min_length=1)]
    """The baseline with the highest score is used."""
    any_of: Annotated[tuple[Criterion, ...], Field(min_length=1)]
    evaluate_on: EvaluateOn = "folds"
    retry: str | None = None
    """The run to try instead if the candidate fails."""
    settings: tuple[str, ...] = ()
    """Overrides for later deep models if the candidate is adopted."""


class SegmentGate(_Gate):
    """Compares a run with a baseline by segment: requires a gain in one segment and a loss in none."""

    kind: Literal["segments"]
    candidate: str
    baselines: Annotated[tuple[str, ...], Field(min_length=1)]
    segmentation: str
    any_of: Annotated[tuple[Criterion, ...], Field(min_length=1)]
    evaluate_on: EvaluateOn = "folds"


class RetrievalGate(_Gate):
    """Requires a gain in recall, and a gain of the ranker that uses the retrieval score."""

    kind: Literal["retrieval"]
    retrieval: str
    """The retrieval run."""
    recall_at: Annotated[int, Field(ge=1)]
    over: Literal["popularity", "random"] = "popularity"
    recall_gain: float = 0.0
    candidate: str
    baselines: Annotated[tuple[str, ...], Field(min_length=1)]
    any_of: Annotated[tuple[Criterion, ...], Field(min_length=1)]
    evaluate_on: EvaluateOn = "holdout"


class DistributionGate(_Gate):
    """Checks the distribution of p; that of q, the submitted scale, is only reported."""

    kind: Literal["distribution"]
    run: str
    mean: float
    mean_tolerance: Annotated[float, Field(gt=0)]
    min_std: float


class CalibrationGate(_Gate):
    """Adopts the calibration with the lowest WLL; keeps the raw predictions if they have the lowest."""

    kind: Literal["calibration"]
    run: str


Gate = Annotated[
    ComparisonGate | SegmentGate | RetrievalGate | DistributionGate | CalibrationGate, Field(discriminator="kind")
]
