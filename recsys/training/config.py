"""The settings of training."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from recsys.metrics import Metrics
from recsys.schema import StrictModel

UNMONITORED = {"n_rows", "n_positive"}


class EarlyStopping(StrictModel):
    """When to stop, judged on rows that are neither trained on nor reported."""

    weights: dict[str, float] = {"score": 1.0}
    """The composite metric: a weighted sum, higher is better; give losses a negative weight."""
    patience: Annotated[int, Field(ge=1)] = 1
    """Epochs without a better value before training stops; the best epoch's weights are kept."""
    holdout_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Share of the fitting rows set aside, where the data brings no validation split."""

    @model_validator(mode="after")
    def _known_metrics(self) -> "EarlyStopping":
        known = set(Metrics.model_fields) - UNMONITORED
        if unknown := sorted(set(self.weights) - known):
            raise ValueError(f"{unknown[0]!r} is not a metric: weigh some of {', '.join(sorted(known))}")
        if not self.weights:
            raise ValueError("weights must name at least one metric")
        return self


class TrainerConfig(StrictModel):
    """One training run."""

    seed: int = Field(default=0, ge=0)
    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=4096, ge=1)
    eval_batch_size: int = Field(default=16_384, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    final_learning_rate_fraction: float = Field(default=0.01, ge=0, le=1)
    """Where the cosine ends, as a share of the learning rate."""
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises from zero."""
    weight_decay: float = Field(default=1e-5, ge=0)
    """AdamW's, on weight matrices of the dense part; biases, norms and embeddings have none."""
    gradient_clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of all gradients together; null for no limit."""
    pos_weight: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """Weight of positives in the log loss; auto is N_neg / N_pos of the fitting rows."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Of the matrix products; weights and the loss are float32 either way."""
    early_stopping: EarlyStopping | None = EarlyStopping()
    """null trains all epochs and keeps the last weights."""
