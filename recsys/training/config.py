"""The settings of training."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from recsys.config import StrictModel
from recsys.distributed.config import EmbeddingTraining
from recsys.evaluation.metrics import METRIC_NAMES, MetricName, metric_name
from recsys.nn.precision import Precision


class EarlyStopping(StrictModel):
    """When to stop, by rows that are neither trained on nor reported."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"holdout_fraction": "validation_fraction"}

    weights: dict[MetricName, float] = {"toss_score": 1.0}
    """The composite metric: a weighted sum, higher is better; give losses a negative weight."""
    patience: Annotated[int, Field(ge=1)] = 1
    """Epochs without a better value before training stops; the best epoch's weights are kept."""
    validation_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Share of the fitting rows set aside, where the data brings no validation split."""

    @field_validator("weights", mode="before")
    @classmethod
    def _known_metrics(cls, weights: Any) -> Any:
        if not isinstance(weights, dict):
            return weights
        weights = {metric_name(name): weight for name, weight in weights.items()}
        if unknown := sorted(str(name) for name in weights.keys() - set(METRIC_NAMES)):
            raise ValueError(f"{unknown[0]!r} is not a metric: weigh some of {', '.join(sorted(METRIC_NAMES))}")
        if not weights:
            raise ValueError("weights must name at least one metric")
        return weights


class LossConfig(StrictModel):
    """Which loss, and how much a click weighs in it."""

    name: Literal["log_loss", "focal"] = "log_loss"
    pos_weight: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """Weight of positives in the log loss; auto is N_neg / N_pos of the fitting rows."""
    gamma: float = Field(default=2.0, ge=0)
    """The focal loss's focusing parameter."""
    alpha: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = "auto"
    """Weight of positives in the focal loss, 1 - alpha that of negatives; auto balances the classes."""

    @model_validator(mode="after")
    def _own_settings(self) -> "LossConfig":
        others = {"log_loss": ("gamma", "alpha"), "focal": ("pos_weight",)}[self.name]
        if wrong := [key for key in others if getattr(self, key) != type(self).model_fields[key].default]:
            raise ValueError(f"{wrong[0]!r} is not a setting of the {self.name} loss: take it away or change the name")
        return self


class FitConfig(StrictModel):
    """One training run, whatever it learns."""

    seed: int = Field(default=0, ge=0)
    epochs: int = Field(default=3, ge=1)
    stop_after: int | None = Field(default=None, ge=1)
    """Epochs after which training ends, though the learning rate falls as if all were to come; null for no such end."""
    batch_size: int = Field(default=4096, ge=1)
    """Rows of an update, over all processes together."""
    micro_batches: int = Field(default=1, ge=1)
    """Parts that a batch is worked through in; doubled whenever the device runs out of memory."""
    eval_batch_size: int = Field(default=16_384, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    final_learning_rate_fraction: float = Field(default=0.01, ge=0, le=1)
    """Where the cosine ends, as a share of the learning rate."""
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises from zero."""
    weight_decay: float = Field(default=1e-5, ge=0)
    """AdamW's, on weight matrices of the dense part; biases, norms and embeddings have none."""
    gradient_clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of all gradients together, those of fused tables left out; null for no limit."""
    mixout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of a weight of the dense part to be read at its initial value in a step."""
    weight_average: float = Field(default=0.0, ge=0, lt=1)
    """Decay, in a step, of a moving average of the weights, which is judged and kept in their place; 0 for none. What
    fused optimizers train is not averaged."""
    embeddings: EmbeddingTraining = EmbeddingTraining()
    precision: Precision = "bf16"
    """Of the matrix products; weights and the loss are float32 either way. bf16 gives way to fp32 where the device
    lacks it or the loss is not finite."""
    checkpoint_every_s: float = Field(default=300.0, gt=0)
    """Time between checkpoints that a killed run resumes from."""


class TrainerConfig(FitConfig):
    """A training run that learns clicks."""

    loss: LossConfig = LossConfig()
    early_stopping: EarlyStopping | None = EarlyStopping()
    """null trains all epochs and keeps the last weights."""
