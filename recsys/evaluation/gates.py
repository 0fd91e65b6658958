"""Decision gates as data: what a run is asked for before it is adopted. `recsys.evaluation.verdicts` evaluates them."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from recsys.config import StrictModel, warn_of_new_name
from recsys.evaluation.comparison import ComparedMetric
from recsys.evaluation.metrics import metric_name


def _partition_name(name: Any) -> Any:
    if name == "last_day":
        warn_of_new_name("last_day", "holdout")
        return "holdout"
    return name


EvaluateOn = Annotated[Literal["folds", "holdout"], BeforeValidator(_partition_name)]
"""What a run is evaluated on: all folds, out-of-fold, or the last day."""


class Criterion(StrictModel):
    """How much better a metric has to be: in its own units, or as a share of the baseline's value."""

    metric: ComparedMetric
    gain: float | None = None
    """Higher AP and lower WLL alike are gains above zero."""
    relative_gain: float | None = None
    interval: Literal["above_zero", "reported"] = "above_zero"

    @field_validator("metric", mode="before")
    @classmethod
    def _name_of_today(cls, metric: Any) -> Any:
        return metric_name(metric)

    @model_validator(mode="after")
    def _one_threshold(self) -> "Criterion":
        if (self.gain is None) == (self.relative_gain is None):
            raise ValueError(f"a criterion on {self.metric!r} takes gain or relative_gain: give one of the two")
        return self


class _Gate(StrictModel):
    renamed_keys = {"says": "description", "judged": "evaluate_on"}

    description: str = ""
    """What the gate decides, in words, for the report."""


class ComparisonGate(_Gate):
    """A run against the best of what went before; any criterion is enough."""

    kind: Literal["comparison"]
    candidate: str
    baselines: Annotated[tuple[str, ...], Field(min_length=1)]
    """The one of the highest score counts."""
    any_of: Annotated[tuple[Criterion, ...], Field(min_length=1)]
    evaluate_on: EvaluateOn = "folds"
    retry: str | None = None
    """The run to try in the candidate's place when it fails."""
    settings: tuple[str, ...] = ()
    """Overrides that later deep models take when the candidate is adopted."""


class SegmentGate(_Gate):
    """A run against a baseline within groups of rows: a gain in any of them, and none that grows worse."""

    kind: Literal["segments"]
    candidate: str
    baselines: Annotated[tuple[str, ...], Field(min_length=1)]
    segmentation: str
    any_of: Annotated[tuple[Criterion, ...], Field(min_length=1)]
    evaluate_on: EvaluateOn = "folds"


class RetrievalGate(_Gate):
    """Better candidates that become better ranking: a gain in recall, and one of the ranker that reads the score."""

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
    """The distribution of predictions, at both scales: p, which it speaks of, and q, which is submitted."""

    kind: Literal["distribution"]
    run: str
    mean: float
    mean_tolerance: Annotated[float, Field(gt=0)]
    min_std: float


class CalibrationGate(_Gate):
    """Which calibration of a run's predictions has the lowest WLL; none where raw ones have it."""

    kind: Literal["calibration"]
    run: str


Gate = Annotated[
    ComparisonGate | SegmentGate | RetrievalGate | DistributionGate | CalibrationGate, Field(discriminator="kind")
]
