"""Configuration of decision gates: the criteria for adopting a run. `recsys.evaluation.verdicts` evaluates them."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from recsys.config import StrictModel, warn_of_new_name
from recsys.evaluation.comparison import ComparedMetric
from recsys.evaluation.metrics import metric_name
from recsys.own_code import is_path, name_object


def _rename_partition(name: Any) -> Any:
    if name == "last_day":
        warn_of_new_name("last_day", "holdout")
        return "holdout"
    return name


EvaluateOn = Literal["folds", "holdout", "forward", "tuning"]
"""The rows a run is evaluated on: all folds, out-of-fold; the holdout (the last day); the forward windows, each by a
model of earlier rows; or the tuning part, on which choices cost no reported figure its honesty."""
EvaluateOnOrAuto = Annotated[
    Literal["auto", "folds", "holdout", "forward", "tuning"], BeforeValidator(_rename_partition)
]
"""auto: the forward windows if the data has any, else the folds."""


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
    """Compares a run with the best of its baselines; one met criterion is enough.

    Each criterion is compared with the baseline that is best by the criterion's own metric.
    """

    kind: Literal["comparison"]
    candidate: str
    baselines: Annotated[tuple[str, ...], Field(min_length=1)]
    any_of: Annotated[tuple[Criterion, ...], Field(min_length=1)]
    evaluate_on: EvaluateOnOrAuto = "auto"
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
    evaluate_on: EvaluateOnOrAuto = "auto"


def _name_function(path: str) -> str:
    """Imports the function, as the user names it: no plan is read that somebody else's run folder holds."""
    if not is_path(path):
        raise ValueError(f"{path!r} must be the path of a function, such as my_package.my_file:my_gate")
    if not callable(name_object(path)):
        raise ValueError(f"{path} is not a function: a gate is a function of predictions by run")
    return path


OwnFunction = Annotated[str, AfterValidator(_name_function)]
Ranking = Literal["strongest", "popularity", "popular_positives", "recent", "recent_impressions", "random"]
"""A ranking of items that ignores the user; `strongest` is the best of them by the gate's recall, without `random`."""


class RetrievalGate(_Gate):
    """Requires a gain in recall, and a gain of the ranker that uses the retrieval score."""

    kind: Literal["retrieval"]
    retrieval: str
    """The retrieval run."""
    recall_at: Annotated[int, Field(ge=1)]
    over: Ranking = "strongest"
    """The ranking of items to compare with."""
    recall_gain: float = 0.0
    recall_interval: Literal["above_zero", "reported"] = "above_zero"
    candidate: str
    baselines: Annotated[tuple[str, ...], Field(min_length=1)]
    any_of: Annotated[tuple[Criterion, ...], Field(min_length=1)]
    evaluate_on: EvaluateOnOrAuto = "holdout"


class DistributionGate(_Gate):
    """Checks the reported predictions: the mean of p, and the spread of the logit. A run that fails cannot be final."""

    kind: Literal["distribution"]
    run: str
    max_bias: Annotated[float, Field(gt=0)] = 0.05
    """Largest difference between the mean of p and the observed rate as a share of this rate, besides the sampling
    error of the rate."""
    min_spread: Annotated[float, Field(ge=0)] = 0.5
    max_spread: Annotated[float, Field(gt=0)] = 1.5
    """Limits of the standard deviation of the logit, as a share of that of the true probabilities, or, if these are
    unknown, of the plan's first ensemble that is another run."""
    mean: float | None = None
    mean_tolerance: Annotated[float | None, Field(gt=0)] = None
    min_std: float | None = None
    """Limits of the mean and the standard deviation of p that are only reported."""
    evaluate_on: EvaluateOnOrAuto = "auto"

    @model_validator(mode="after")
    def _check_limits(self) -> "DistributionGate":
        if (self.mean is None) != (self.mean_tolerance is None):
            raise ValueError("mean and mean_tolerance belong together: give both, or none of them")
        if self.min_spread >= self.max_spread:
            raise ValueError(f"min_spread must be below max_spread, got {self.min_spread:g} and {self.max_spread:g}")
        return self


class CalibrationGate(_Gate):
    """Adopts the calibration with the lowest WLL; keeps the raw predictions if they have the lowest."""

    kind: Literal["calibration"]
    run: str


class LatencyGate(_Gate):
    """Limits the time of a request on this machine, from its columns to the scores of its candidates."""

    kind: Literal["latency"]
    run: str
    max_ms: Annotated[float, Field(gt=0)]
    """Limit of the 99th percentile in milliseconds."""
    n_candidates: Annotated[int, Field(ge=1)] = 100
    """Rows of a request."""
    n_requests: Annotated[int, Field(ge=10)] = 200
    """Measured requests."""
    of: Literal["bundle", "run"] = "bundle"
    """What answers: the exported run in a process of its own, or the run's own models, which get encoded rows."""


class MemoryGate(_Gate):
    """Limits the peak memory of serving a run, of scoring with it, or of training it."""

    kind: Literal["memory"]
    run: str
    max_gib: Annotated[float, Field(gt=0)]
    of: Literal["bundle", "scoring", "training"] = "bundle"
    """bundle: of a process that answers requests with the exported run."""
    device: Literal["ram", "gpu"] = "ram"
    """Memory of the process, or of the GPU."""

    @model_validator(mode="after")
    def _is_measured(self) -> Self:
        if self.of == "bundle" and self.device == "gpu":
            raise ValueError("a bundle is scored on the CPU: set of to scoring or training, or device to ram")
        return self


class OwnGate(_Gate):
    """A decision of the user's own, by a function that gets the predictions of runs on their shared rows.

    See `recsys.evaluation.verdicts.own.GateFunction`.
    """

    kind: Literal["own"]
    function: OwnFunction
    """The path of the function, `package.module:function`."""
    runs: Annotated[tuple[str, ...], Field(min_length=1)]
    """The first is the candidate: if the gate rejects it, it cannot be the final model."""
    evaluate_on: EvaluateOnOrAuto = "auto"

    @property
    def candidate(self) -> str:
        """The run that is adopted or rejected."""
        return self.runs[0]

    @property
    def baselines(self) -> tuple[str, ...]:
        """The other runs."""
        return self.runs[1:]


RunGate = DistributionGate | CalibrationGate | LatencyGate | MemoryGate
"""Gates of a single run, which compare it with no other run."""
Gate = Annotated[
    ComparisonGate
    | SegmentGate
    | RetrievalGate
    | DistributionGate
    | CalibrationGate
    | LatencyGate
    | MemoryGate
    | OwnGate,
    Field(discriminator="kind"),
]
