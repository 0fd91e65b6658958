"""The settings of retrieval, besides the towers' sizes and the index."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from recsys.config import StrictModel
from recsys.training.config import FitConfig

PositivesOf = Literal["clicked", "all"]
"""Which rows name an item that should have been retrieved: clicks, or every row whatever its label."""


class RetrievalLoss(StrictModel):
    """What the towers learn."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "all_ads": "full_catalog",
        "shown": "impressions",
        "shown_per_hit": "impressions_per_positive",
        "shown_weight": "impression_weight",
    }

    name: Literal["sampled_softmax", "logistic"] = "sampled_softmax"
    """logistic: the log loss of each row's own pair, clicked or not, as a ranker has it."""
    logq_correction: bool = True
    """Takes out of the logits how often each candidate is sampled, so that popular items are not pushed away."""
    uniform_negatives: int = Field(default=0, ge=0)
    """Items drawn uniformly that follow each process's rows."""
    popular_negatives: int = Field(default=0, ge=0)
    """Items drawn in proportion to their positives."""
    full_catalog: bool = False
    """Contrasts with the whole catalog and not with the batch: where it is small, nothing needs to be sampled."""
    impressions: Literal["ignore", "negative", "positive"] = "ignore"
    """What rows that are not positives do. negative: their own items are pushed away, and are candidates for all rows.
    positive: they count as positives too, for what is shown depends on the user."""
    impressions_per_positive: float | None = Field(default=None, gt=0)
    """How many of these rows are read for each positive; null for all."""
    impression_weight: float = Field(default=1.0, gt=0)
    """Of such a row's loss; that of a positive is 1."""

    @model_validator(mode="after")
    def _own_settings(self) -> "RetrievalLoss":
        dead: tuple[str, ...] = ()
        if self.name == "logistic":
            dead = ("logq_correction", "uniform_negatives", "popular_negatives", "full_catalog", "impressions")
        elif self.full_catalog:
            dead = ("logq_correction", "uniform_negatives", "popular_negatives")
        if self.name != "logistic" and self.impressions == "ignore":
            dead += ("impressions_per_positive", "impression_weight")
        if wrong := [key for key in dead if getattr(self, key) != type(self).model_fields[key].default]:
            raise ValueError(
                f"{wrong[0]!r} has no effect on this loss: take it away, or change name, full_catalog or impressions"
            )
        return self


class RetrievalStopping(StrictModel):
    """Keeps the epoch that retrieves best, on rows that are neither trained on nor reported."""

    metric: Literal["recall@10", "recall@100", "ndcg@10", "ndcg@100", "mrr"] = "ndcg@10"
    patience: Annotated[int, Field(ge=1)] = 3
    """Epochs without a better value before training stops."""


class RetrievalTrainerConfig(FitConfig):
    """A training run of two towers."""

    loss: RetrievalLoss = RetrievalLoss()
    early_stopping: RetrievalStopping | None = None
    """Needs a valid split of the data's own; null trains all epochs and keeps the last weights."""
