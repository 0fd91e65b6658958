"""metrics.json: its pydantic models, and the functions that read and write it."""

from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, field_validator

from recsys.config import validate
from recsys.errors import InputError
from recsys.evaluation.calibration.calibrator import CalibrationKind
from recsys.evaluation.calibration.gain import CalibrationGain, CalibrationLoss
from recsys.evaluation.comparison import By, Difference
from recsys.evaluation.logits import LogitLink
from recsys.evaluation.metrics import METRIC_NAMES, MetricName, Metrics
from recsys.evaluation.shown import shown_metrics
from recsys.evaluation.stacking import StackMethod
from recsys.runs.layout import METRICS_FILE
from recsys.system.files import read_json
from recsys.system.seal import verify

MetricsT = TypeVar("MetricsT", bound=BaseModel)
Precision = Literal["bf16", "fp32"]
"""As in `recsys.nn.precision`, which imports torch."""


class _Summary(BaseModel):
    """Frozen; ignores keys that other kinds of runs add."""

    model_config = ConfigDict(frozen=True)


class EpochSummary(_Summary):
    """Summary of one epoch."""

    loss: float
    monitored: float | None
    """The metric that early stopping monitored; None if it monitored nothing."""
    linear_share: float | None = None
    """Share of the model's linear part in the logit; None if none was chosen."""


class LinkSummary(_Summary):
    """The mapping from the logits of a fit to those of p and q."""

    link: LogitLink


class FitSummary(LinkSummary):
    """Summary of a fitted model."""

    n_rows_trained: int
    """Summed over epochs."""
    seconds: float
    waited_s: float
    """Time that training waited for batches."""
    peak_rss_gib: float
    peak_gpu_gib: float
    precision: Precision
    fell_back_at_step: int | None
    """The step at which training fell back to fp32; None if it did not."""
    n_skipped: int = 0
    """Batches that were not finite and changed no weight."""
    micro_batches: int
    best_epoch: int
    epochs: tuple[EpochSummary, ...]

    @property
    def linear_share(self) -> float:
        """Share of the linear part in the logit of the best epoch; zero without one."""
        return self.epochs[self.best_epoch].linear_share or 0.0


class TowersFitSummary(FitSummary):
    """Summary of fitted towers."""

    rows_per_s: float


class TrainSummary(_Summary):
    """Speed and memory of a run's training, over all fits."""

    rows_per_s: float
    seconds: float
    waited_s: float
    peak_rss_gib: float
    peak_gpu_gib: float
    n_processes: int
    precision: Precision
    fits: dict[str, FitSummary]
    """By split."""


class StackSummary(_Summary):
    """Replaces `TrainSummary` in runs without training: an ensemble, or a plan's final run."""

    fits: dict[str, LinkSummary]
    """By fold."""


class Spread(_Summary):
    """Mean and standard deviation (n - 1) of a metric over folds; None if it is defined on too few folds."""

    mean: float | None
    sd: float | None


class CalibrationSummary(_Summary):
    """The calibration of a run, and metrics of its predictions by calibration kind."""

    chosen: CalibrationKind | None
    """Of new rows; None if no calibration was fitted."""
    by_fold: dict[str, CalibrationKind] = {}
    """Of the reported rows, by fold: chosen on other rows than those of the fold."""
    fitted_on: Literal["out-of-fold", "monitored rows"] = "out-of-fold"
    """The rows that it was fitted on: the reported rows of other folds, or those that early stopping monitored."""
    loss: CalibrationLoss | None = None
    """What gains are measured by; earlier versions took the lowest WLL."""
    figures: dict[CalibrationKind, Metrics]
    """Of the reported rows. Fitted out-of-fold: of every kind, cross-fitted. Fitted on monitored rows: of `none` and
    the chosen kind; empty if there are no reported rows."""
    gains: dict[CalibrationKind, CalibrationGain] = {}
    """By kind: the gain over no calibration, on the rows that the choice is based on. A kind is chosen only if the
    interval of its gain lies above zero."""
    monitored: dict[CalibrationKind, Metrics] = {}
    """Fitted on monitored rows: of these rows, by kind, cross-fitted; the chosen kind is based on them."""
    forward: dict[CalibrationKind, Metrics] = {}
    """By kind: each of the last days calibrated by a fit to the days before it; empty without days."""
    reason: str | None = None
    """Why no calibration was fitted to monitored rows."""

    @property
    def has_changed(self) -> bool:
        """Whether the reported predictions differ from the raw ones."""
        return any(kind != "none" for kind in self.by_fold.values())


class DataSummary(_Summary):
    """The location of the run's prepared data set."""

    folder: str


class RunMetrics(_Summary):
    """metrics.json of a ranking run; also the common fields of ensembles and final runs."""

    overall: Metrics
    """Of the reported predictions, as are all others: calibrated, and the means over seeds of logits."""
    raw: Metrics | None = None
    """Of the predictions before calibration; None in runs of earlier versions, whose predictions all are."""
    folds: dict[str, Metrics]
    spread: dict[str, Spread] = {}
    """By metric, over folds."""
    segments: dict[str, dict[str, Metrics]]
    """By segmentation and label."""
    train: TrainSummary | StackSummary
    named_metrics: tuple[MetricName, ...] = ("toss_score",)
    """The metrics that the run's config names, first the one to choose by; earlier versions chose by the Toss score."""
    own_metrics: dict[str, dict[str, float | None]] = {}
    """By path: a metric of the user's own, by fold and overall."""
    baselines: dict[str, Metrics] = {}
    """By name: metrics of simple models on the same rows."""
    splits: dict[str, Metrics] | None = None
    """By predefined partition, if more than one is evaluated."""
    bayes: Metrics | None = None
    """Metrics of the generator's true probabilities, if they are known."""
    data: DataSummary | None = None
    calibration: CalibrationSummary | None = None
    member_folders: dict[str, str] | None = None
    """For an ensemble or a final run: run folder by member."""

    @field_validator("spread", mode="before")
    @classmethod
    def _read_earlier_metric_name(cls, spread: dict[str, Any]) -> dict[str, Any]:
        return _rename_score(spread)

    @property
    def shown(self) -> tuple[MetricName, ...]:
        """The metrics of the run's tables, in column order."""
        return shown_metrics(self.named_metrics, has_users=self.overall.gauc is not None)

    @property
    def sd(self) -> dict[MetricName, float | None]:
        """The standard deviation of each metric over folds; None with fewer than two folds."""
        return {name: self.spread[name].sd if name in self.spread else None for name in METRIC_NAMES}

    @property
    def links(self) -> dict[str, LogitLink]:
        """By fit: the mapping from its logits to those of p and q."""
        return {name: fit.link for name, fit in self.train.fits.items()}

    @property
    def train_summary(self) -> TrainSummary:
        """The training summary of a run that trained a model."""
        assert isinstance(self.train, TrainSummary)
        return self.train


class Gain(_Summary):
    """The gain of an ensemble over its best member."""

    over: str
    differences: dict[str, Difference]
    """By metric."""
    by: By = "row"
    """What the intervals draw."""
    n_clusters: int | None = None
    """Number of users, days or rows that were drawn; None in files of earlier versions."""
    note: str | None = None
    """A warning that the intervals are rough."""

    @field_validator("differences", mode="before")
    @classmethod
    def _read_earlier_metric_name(cls, differences: dict[str, Any]) -> dict[str, Any]:
        return _rename_score(differences)


class EnsembleMetrics(RunMetrics):
    """metrics.json of an ensemble."""

    method: StackMethod
    """Of new rows."""
    method_by_fold: dict[str, StackMethod] = {}
    """Of the reported rows, by fold: the best method on the other folds."""
    members: dict[str, Metrics]
    methods: dict[StackMethod, Metrics]
    """By evaluated method: cross-fitted metrics."""
    without: dict[str, Metrics]
    """By member: metrics of the ensemble without it."""
    weights: dict[str, float] | None
    """None if the method has no weight per member."""
    gain: Gain


class HoldoutEnsembleMetrics(RunMetrics):
    """metrics.json of an ensemble on the last day; its stack and method come from the rows of earlier days."""

    method: StackMethod


class FinalMetrics(RunMetrics):
    """metrics.json of a plan's final run: the best run, trained again on all rows."""

    best: str
    estimated_on: str
    """The folder of the run that `overall` was measured on."""
    weights: dict[str, float] | None


def _rename_score(by_metric: dict[str, Any]) -> dict[str, Any]:
    """Renames the metric that earlier versions called `score`."""
    return {("toss_score" if name == "score" else name): value for name, value in by_metric.items()}


def to_json(metrics: RunMetrics) -> dict[str, Any]:
    """The content of metrics.json, without sections that the run does not have."""
    values: dict[str, Any] = metrics.model_dump(mode="json")
    kept_when_null = {"weights"}
    for name in ("baselines", "own_metrics"):
        if not values[name]:
            del values[name]
    return {key: value for key, value in values.items() if value is not None or key in kept_when_null}


def beaten_by(metrics: RunMetrics) -> list[str]:
    """The names of the baselines whose log loss and ROC-AUC are both no worse than the model's."""
    compared: tuple[MetricName, ...] = ("logloss", "roc_auc")
    model = metrics.overall
    if any(model.value(name) is None for name in compared):
        return []
    return [
        title
        for title, baseline in metrics.baselines.items()
        if all(baseline.signed(name) >= model.signed(name) for name in compared)
    ]


def read_metrics(run: Path) -> RunMetrics:
    """Reads metrics.json of a finished ranking run or ensemble; see `read_metrics_as`."""
    return read_metrics_as(run, RunMetrics)


def read_metrics_as(run: Path, kind: type[MetricsT]) -> MetricsT:
    """Reads metrics.json of a finished run.

    Args:
        run: the run folder.
        kind: the model of metrics.json for this kind of run.

    Raises:
        InputError: if the file is missing, was modified, or belongs to another kind of run.
    """
    verify(run, METRICS_FILE)
    path = run / METRICS_FILE
    values = read_json(path)
    required = [name for name, field in kind.model_fields.items() if field.is_required()]
    if isinstance(values, dict) and (missing := [name for name in required if name not in values]):
        raise InputError(f"{path} has no {missing[0]!r}: {run} is a run of another kind, pass another run folder")
    return validate(kind, values, str(path))
