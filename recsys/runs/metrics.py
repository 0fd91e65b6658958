"""metrics.json: its models, written and read in one place."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from recsys.config import validate
from recsys.evaluation.calibration import CalibrationKind
from recsys.evaluation.comparison import Difference
from recsys.evaluation.logits import LogitLink
from recsys.evaluation.metrics import Metrics
from recsys.evaluation.stacking import StackMethod
from recsys.nn.precision import Precision
from recsys.runs.layout import METRICS_FILE
from recsys.system.files import read_json
from recsys.system.seal import verify

MetricsT = TypeVar("MetricsT", bound=BaseModel)


class _Summary(BaseModel):
    """Frozen; keys that another kind of run adds are left out."""

    model_config = ConfigDict(frozen=True)


class EpochSummary(_Summary):
    """One pass over the training rows."""

    loss: float
    monitored: float | None
    """The value that early stopping saw; None where nothing was monitored."""


class LinkSummary(_Summary):
    """How the logits of a fit relate to p and q."""

    link: LogitLink


class FitSummary(LinkSummary):
    """What metrics.json keeps of a fitted model."""

    n_rows_trained: int
    """Over all epochs."""
    seconds: float
    waited_s: float
    """Time that training waited for batches."""
    peak_rss_gib: float
    peak_gpu_gib: float
    precision: Precision
    fell_back_at_step: int | None
    """The step from which training ran in fp32; None where it never fell back."""
    micro_batches: int
    best_epoch: int
    epochs: tuple[EpochSummary, ...]


class TowersFitSummary(FitSummary):
    """What metrics.json keeps of fitted towers."""

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
    """What stands in the place of `TrainSummary` where nothing was trained: an ensemble, or a plan's final run."""

    fits: dict[str, LinkSummary]
    """By fold."""


class Spread(_Summary):
    """Mean and standard deviation (n - 1) of a metric over folds; None where too few folds have it."""

    mean: float | None
    sd: float | None


class CalibrationSummary(_Summary):
    """What calibration did to a run's predictions."""

    chosen: CalibrationKind | None
    """None where there were no other folds to fit to."""
    figures: dict[CalibrationKind, Metrics]
    """By kind, cross-fitted."""


class DataSummary(_Summary):
    """Where the run's prepared data set is."""

    folder: str


class RunMetrics(_Summary):
    """metrics.json of a ranking run, and what it shares with that of an ensemble."""

    overall: Metrics
    folds: dict[str, Metrics]
    spread: dict[str, Spread] = {}
    """By metric, over folds."""
    segments: dict[str, dict[str, Metrics]]
    """By segmentation and label."""
    train: TrainSummary | StackSummary
    splits: dict[str, Metrics] | None = None
    """By predefined partition, where more than one is evaluated."""
    bayes: Metrics | None = None
    """Of the generator's true probabilities, where they are known."""
    data: DataSummary | None = None
    calibration: CalibrationSummary | None = None
    member_folders: dict[str, str] | None = None
    """Of an ensemble or a final run, by member."""

    @property
    def links(self) -> dict[str, LogitLink]:
        """By fit, how its logits relate to p and q."""
        return {name: fit.link for name, fit in self.train.fits.items()}

    @property
    def trained(self) -> TrainSummary:
        """Of a run that trained a model."""
        assert isinstance(self.train, TrainSummary)
        return self.train


class Gain(_Summary):
    """An ensemble against its best member."""

    over: str
    differences: dict[str, Difference]
    """By metric."""


class EnsembleMetrics(RunMetrics):
    """metrics.json of an ensemble."""

    method: StackMethod
    members: dict[str, Metrics]
    methods: dict[StackMethod, Metrics]
    """By the ways that were tried, cross-fitted."""
    without: dict[str, Metrics]
    """By member, of the ensemble without it."""
    weights: dict[str, float] | None
    """None where the method has no weight for each member."""
    gain: Gain


class HoldoutEnsembleMetrics(RunMetrics):
    """metrics.json of an ensemble on the last day, stacked as its out-of-fold counterpart is."""

    method: StackMethod


class FinalMetrics(RunMetrics):
    """metrics.json of a plan's final run: the best one, trained once more on all rows."""

    best: str
    estimated_on: str
    """The folder of the run that `overall` was measured on."""
    weights: dict[str, float] | None


def to_json(metrics: RunMetrics) -> dict[str, Any]:
    """The content of metrics.json: sections that a run does not have are left out."""
    values: dict[str, Any] = metrics.model_dump(mode="json")
    kept_when_null = {"weights"}
    return {key: value for key, value in values.items() if value is not None or key in kept_when_null}


def read_metrics(run: Path) -> RunMetrics:
    """metrics.json of a finished ranking run or ensemble; see `read_metrics_as`."""
    return read_metrics_as(run, RunMetrics)


def read_metrics_as(run: Path, kind: type[MetricsT]) -> MetricsT:
    """metrics.json of a finished run.

    Args:
        run: its folder.
        kind: what the run is.

    Raises:
        InputError: when the file is missing, was changed, or is not that of such a run.
    """
    verify(run, METRICS_FILE)
    return validate(kind, _with_new_names(read_json(run / METRICS_FILE)), str(run / METRICS_FILE))


def _with_new_names(values: Any) -> Any:
    """Values as earlier versions wrote them, under today's names."""
    if isinstance(values, dict):
        renamed = {"score": "toss_score"}
        return {renamed.get(key, key): _with_new_names(value) for key, value in values.items()}
    return values
