"""The settings of retrieval, besides the towers' sizes and the index."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from recsys.config import StrictModel
from recsys.training.config import FitConfig

HitsOf = Literal["clicked", "all"]
"""Which rows name an ad that should have been retrieved: clicks, or every row whatever its label."""


class RetrievalLoss(StrictModel):
    """What the towers learn."""

    name: Literal["sampled_softmax", "logistic"] = "sampled_softmax"
    """logistic: the log loss of each row's own pair, clicked or not, as a ranker has it."""
    logq_correction: bool = True
    """Takes out of the logits how often each candidate is sampled, so that popular ads are not pushed away."""
    uniform_negatives: int = Field(default=0, ge=0)
    """Ads drawn uniformly that follow each process's rows."""
    popular_negatives: int = Field(default=0, ge=0)
    """Ads drawn as often as they are hits."""
    all_ads: bool = False
    """Contrasts with the whole catalogue and not with the batch: where it is small, nothing needs to be sampled."""
    shown: Literal["ignore", "negative", "positive"] = "ignore"
    """Rows that are no hits. negative: their own ads are pushed away, and are candidates for all rows. positive: what
    is shown tells of the user too."""
    shown_per_hit: float | None = Field(default=None, gt=0)
    """How many of them are read for each hit; null for all."""
    shown_weight: float = Field(default=1.0, gt=0)
    """Of such a row's loss; a hit's is 1."""

    @model_validator(mode="after")
    def _own_settings(self) -> "RetrievalLoss":
        dead: tuple[str, ...] = ()
        if self.name == "logistic":
            dead = ("logq_correction", "uniform_negatives", "popular_negatives", "all_ads", "shown")
        elif self.all_ads:
            dead = ("logq_correction", "uniform_negatives", "popular_negatives")
        if self.name != "logistic" and self.shown == "ignore":
            dead += ("shown_per_hit", "shown_weight")
        if wrong := [key for key in dead if getattr(self, key) != type(self).model_fields[key].default]:
            raise ValueError(f"{wrong[0]!r} has no effect on this loss: take it away, or change name, all_ads or shown")
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
