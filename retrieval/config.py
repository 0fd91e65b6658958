"""Settings of retrieval: training and the index."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from recsys.config import StrictModel
from recsys.training.config import FitConfig
from retrieval.auto import AutoModel

PositivesOf = Literal["clicked", "all"]
"""The rows that count as positives: clicked rows, or all rows regardless of the label."""


IndexKind = Literal["flat", "ivf_flat", "ivf_pq", "hnsw"]


class RetrievalLoss(StrictModel):
    """The loss of the towers."""

    model_config = ConfigDict(allow_inf_nan=False)

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "all_ads": "full_catalog",
        "shown": "impressions",
        "shown_per_hit": "impressions_per_positive",
        "shown_weight": "impression_weight",
    }

    name: Literal["sampled_softmax", "logistic", "gbce"] = "sampled_softmax"
    """logistic: the log loss of each row's (request, item) pair and label, as in ranking. gbce: the binary
    cross-entropy of the next item and of sampled items, for sequential poolings."""
    logq_correction: bool = True
    """Subtracts ln of the expected count of each candidate from its logit, so popular items are not penalized."""
    uniform_negatives: int = Field(default=0, ge=0)
    """Negatives per process and batch, sampled uniformly from the catalog."""
    popular_negatives: int = Field(default=0, ge=0)
    """Negatives per process and batch, sampled in proportion to their positives."""
    batch_negatives: int = Field(default=0, ge=0)
    """Negatives per process and batch that sequential poolings sample from the next items of the batch's steps; other
    poolings use the items of all rows of the batch."""
    gbce_calibration: float = Field(default=0.75, ge=0, le=1)
    """Calibration t of gBCE: 0 is the usual binary cross-entropy."""
    full_catalog: bool = False
    """Uses the full catalog as negatives instead of the batch's items; suits small catalogs."""
    impressions: Literal["ignore", "negative", "positive"] = "ignore"
    """Use of impressions, the rows that are not positives. negative: a row's item is a negative of the row, and a
    candidate of all rows. positive: they count as positives too, because the items shown depend on the user."""
    impressions_per_positive: float | None = Field(default=None, gt=0)
    """Impressions sampled per positive; null for all."""
    impression_weight: float = Field(default=1.0, gt=0)
    """Weight of an impression's loss; the weight of a positive is 1."""

    @property
    def ignores_impressions(self) -> bool:
        """Whether only positives are trained on."""
        return self.name != "logistic" and self.impressions == "ignore"

    @property
    def n_sampled(self) -> int:
        """Negatives that are sampled for each batch."""
        return self.uniform_negatives + self.popular_negatives + self.batch_negatives

    @model_validator(mode="after")
    def _check_unused_settings(self) -> "RetrievalLoss":
        sampled = ("logq_correction", "uniform_negatives", "popular_negatives", "batch_negatives")
        unused: tuple[str, ...] = ()
        if self.name == "logistic":
            unused = (*sampled, "full_catalog", "impressions")
        elif self.name == "gbce":
            unused = ("logq_correction", "full_catalog", "impressions")
        elif self.full_catalog:
            unused = sampled
        if self.name != "gbce":
            unused += ("gbce_calibration",)
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


class RetrievalTrainerConfig(AutoModel, FitConfig):
    """Training settings of two towers; `pipelines.parts.retrieval_defaults` chooses `auto_keys` that are not set."""

    auto_keys: ClassVar[frozenset[str]] = frozenset(
        {
            "batch_size",
            "epochs",
            "learning_rate",
            "final_learning_rate_fraction",
            "warmup_fraction",
            "eval_batch_size",
            "weight_average",
            "loss",
            "early_stopping",
        }
    )

    loss: RetrievalLoss = RetrievalLoss()
    early_stopping: RetrievalStopping | None = None
    """Monitors the valid split, or held-out positives if there is none; null trains all epochs and keeps the last
    weights."""
    validation_fraction: float = Field(default=0.05, gt=0, lt=0.5)
    """Fraction of the positives held out for early stopping if the data has no valid split."""


class IndexConfig(StrictModel):
    """Settings of the index."""

    kind: Literal["auto", IndexKind] = "auto"
    """auto: exact search up to 20,000 items, inverted lists above. ivf_pq: exact search below 256 items, as product
    quantization needs 256 vectors."""
    wanted_recall: float = Field(default=0.95, gt=0, le=1)
    """Minimum recall@100 against exact search; n_probe or ef_search is the smallest value that reaches it."""
    n_lists: int | None = Field(default=None, ge=1)
    """Inverted lists; null for about four times the square root of the number of items."""
    n_probe: int | None = Field(default=None, ge=1)
    """Lists searched per query; null to reach `wanted_recall`."""
    pq_bytes: int | None = Field(default=None, ge=1)
    """Bytes per vector with product quantization, a divisor of the vectors' width; null: half a byte per dimension."""
    hnsw_links: int = Field(default=32, ge=2, le=4096)
    ef_construction: int = Field(default=100, ge=1)
    ef_search: int | None = Field(default=None, ge=1)
    """Size of the HNSW candidate list in a search; null to reach `wanted_recall`."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Search device; auto is the GPU if faiss supports it and has this kind of index on it."""
