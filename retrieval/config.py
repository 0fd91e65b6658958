"""Training settings of retrieval."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from recsys.config import StrictModel
from recsys.training.config import FitConfig

PositivesOf = Literal["clicked", "all"]
"""The rows that count as positives: clicked rows, or all rows regardless of the label."""


class RetrievalLoss(StrictModel):
    """The loss of the towers."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "all_ads": "full_catalog",
        "shown": "impressions",
        "shown_per_hit": "impressions_per_positive",
        "shown_weight": "impression_weight",
    }

    name: Literal["sampled_softmax", "logistic"] = "sampled_softmax"
    """logistic: the log loss of each row's (request, item) pair and label, as in ranking."""
    logq_correction: bool = True
    """Subtracts ln of the expected count of each candidate from its logit, so popular items are not penalized."""
    uniform_negatives: int = Field(default=0, ge=0)
    """Negatives per process and batch, sampled uniformly from the catalog."""
    popular_negatives: int = Field(default=0, ge=0)
    """Negatives per process and batch, sampled in proportion to their positives."""
    full_catalog: bool = False
    """Uses the full catalog as negatives instead of the batch's items; suits small catalogs."""
    impressions: Literal["ignore", "negative", "positive"] = "ignore"
    """Use of impressions, the rows that are not positives. negative: a row's item is a negative of the row, and a
    candidate of all rows. positive: they count as positives too, because the items shown depend on the user."""
    impressions_per_positive: float | None = Field(default=None, gt=0)
    """Impressions sampled per positive; null for all."""
    impression_weight: float = Field(default=1.0, gt=0)
    """Weight of an impression's loss; the weight of a positive is 1."""

    @model_validator(mode="after")
    def _check_unused_settings(self) -> "RetrievalLoss":
        unused: tuple[str, ...] = ()
        if self.name == "logistic":
            unused = ("logq_correction", "uniform_negatives", "popular_negatives", "full_catalog", "impressions")
        elif self.full_catalog:
            unused = ("logq_correction", "uniform_negatives", "popular_negatives")
        if self.name != "logistic" and self.impressions == "ignore":
            unused += ("impressions_per_positive", "impression_weight")
        if changed := [key for key in unused if getattr(self, key) != type(self).model_fields[key].default]:
            raise ValueError(
                f"{changed[0]!r} has no effect on this loss: remove it, or change name, full_catalog or impressions"
            )
        return self


class RetrievalStopping(StrictModel):
    """Early stopping: keeps the epoch with the best metric on validation rows, which are not reported."""

    metric: Literal["recall@10", "recall@100", "ndcg@10", "ndcg@100", "mrr"] = "ndcg@10"
    patience: Annotated[int, Field(ge=1)] = 3
    """Epochs without improvement before training stops."""


class RetrievalTrainerConfig(FitConfig):
    """Training settings of two towers."""

    loss: RetrievalLoss = RetrievalLoss()
    early_stopping: RetrievalStopping | None = None
    """Needs a valid split in the data set; null trains all epochs and keeps the last weights."""
