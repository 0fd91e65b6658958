"""The contents of importance.json: what a model loses when features of its rows are those of other rows."""

from pydantic import BaseModel

from recsys.evaluation.comparison import COMPARED, By, ComparedMetric, Comparison
from recsys.evaluation.metrics import LOWER_IS_BETTER
from recsys.evaluation.shown import format_interval, format_metric, interval_sd

IMPORTANCE_FILE = "importance.json"


class Loss(BaseModel):
    """How much worse a metric becomes, with the bounds of its 95 % interval; above zero is worse for every metric."""

    loss: float
    low: float
    high: float

    def cells(self) -> tuple[str, str]:
        """The loss and its interval as text."""
        return format_metric(self.loss, interval_sd(self.low, self.high), "+"), format_interval(self.low, self.high)


class FeatureImportance(BaseModel):
    """What is lost without the information of a feature, or of a group of features."""

    name: str
    features: tuple[str, ...]
    """The features that are permuted together."""
    is_read: bool
    """False if no prediction changed: no model reads the features."""
    losses: dict[ComparedMetric, Loss]


class Importances(BaseModel):
    """Permutation importance of the features of a run, each list in falling order of the loss of `metric`."""

    run: str
    metric: ComparedMetric
    n_rows: int
    n_positive: int
    by: By
    """What the intervals draw."""
    n_clusters: int
    splits: tuple[str, ...]
    seed: int
    repeats: int
    metrics: dict[ComparedMetric, float | None]
    """Of the unpermuted rows."""
    features: tuple[FeatureImportance, ...] = ()
    groups: tuple[FeatureImportance, ...] = ()


def losses_of(comparison: Comparison) -> dict[ComparedMetric, Loss]:
    """The losses by metric, from the differences of predictions on permuted rows from those on the rows themselves."""
    losses: dict[ComparedMetric, Loss] = {}
    for metric in COMPARED:
        change = comparison.differences[metric]
        low, high = change.low, change.high
        if metric not in LOWER_IS_BETTER:
            low, high = -high, -low
        losses[metric] = Loss(loss=change.difference * (1 if metric in LOWER_IS_BETTER else -1), low=low, high=high)
    return losses
