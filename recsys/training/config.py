"""Settings of training."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from recsys import defaults
from recsys.config import StrictModel
from recsys.defaults import AUTO, Auto, DataSize, filled
from recsys.distributed.config import EmbeddingTraining
from recsys.evaluation.metrics import METRIC_NAMES, NEEDS_USERS, metric_name
from recsys.nn.precision import Precision
from recsys.own_code import is_path
from recsys.patterns import nearest

MAX_FLOAT32, MAX_SEED = 3e38, 2**62
"""Limits of torch, which cannot convert larger numbers."""
PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]


class EarlyStopping(StrictModel):
    """Early stopping, on rows that are neither trained on nor reported."""

    model_config = ConfigDict(allow_inf_nan=False)

    renamed_keys: ClassVar[Mapping[str, str]] = {"holdout_fraction": "validation_fraction"}

    weights: dict[str, float] = {"logloss": -1.0}
    """Weights of the composite metric, a weighted sum of metrics; higher is better, so losses need negative weights. A
    metric of your own is named by its path, `package.module:function`."""
    patience: Auto[PositiveInt] = AUTO
    """Epochs without improvement before training stops; the best epoch's weights are kept."""
    validation_fraction: Auto[Annotated[float, Field(gt=0, lt=0.5)]] = AUTO
    """Fraction of the fitting rows held out for early stopping if the data has no validation split; the latest rows of
    a split by time."""

    @field_validator("weights", mode="before")
    @classmethod
    def _check_metrics(cls, weights: Any) -> Any:
        if not isinstance(weights, dict):
            return weights
        weights = {metric_name(name): weight for name, weight in weights.items()}
        names = {str(name) for name in weights if not is_path(str(name))}
        if unknown := sorted(names - set(METRIC_NAMES)):
            raise ValueError(f"{unknown[0]!r} is not a metric: choose from {', '.join(sorted(METRIC_NAMES))}")
        if needs_users := sorted(weights.keys() & NEEDS_USERS):
            raise ValueError(f"{needs_users[0]!r} needs users, whom early stopping does not know: choose roc_auc")
        if not weights:
            raise ValueError("weights must have at least one metric")
        return weights

    def resolved(self, size: DataSize) -> "EarlyStopping":
        """Replaces the settings that are `auto` by those for data of this size."""
        return filled(
            self,
            {"patience": defaults.patience(size), "validation_fraction": defaults.validation_fraction(size)},
        )


_LOSS_SETTINGS = ("pos_weight", "gamma", "alpha")


def _check_loss_name(name: str) -> str:
    if name not in LOSSES and not is_path(name):
        raise ValueError(
            f"unknown loss {name!r}{nearest(name, LOSSES)}: choose one of {', '.join(LOSSES)}, or the path of a class "
            "such as my_package.my_file:MyLoss"
        )
    return name


LOSSES = ("log_loss", "focal")
LossName = Annotated[str, AfterValidator(_check_loss_name)]


class LossConfig(StrictModel):
    """The loss and its class weights."""

    model_config = ConfigDict(allow_inf_nan=False)

    name: LossName = "log_loss"
    """log_loss, focal, or the path of a class of your own, `package.module:Class`: see `losses.RankingLoss`."""
    pos_weight: Annotated[float, Field(gt=0, le=MAX_FLOAT32)] | Literal["auto"] = "auto"
    """Weight of positives in the log loss; auto is N_neg / N_pos of the fitting rows, or of their sums of weights."""
    gamma: float = Field(default=2.0, ge=0)
    """Focusing parameter of the focal loss."""
    alpha: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = "auto"
    """Weight of positives in the focal loss; negatives weigh 1 - alpha; auto balances the classes."""
    self_ensemble: float = Field(default=0.0, ge=0)
    """Weight of the self-ensemble loss: two passes with different dropout, whose mean probability has the loss, and
    each of which is drawn to that mean with this weight. 0 for a single pass."""
    branches: float = Field(default=0.0, ge=0)
    """Weight of the losses of a parallel model's branches, each times how much higher its mean loss is than that of the
    whole model. 0 for none."""

    @model_validator(mode="after")
    def _check_settings(self) -> "LossConfig":
        inapplicable = {"log_loss": ("gamma", "alpha"), "focal": ("pos_weight",)}.get(self.name, _LOSS_SETTINGS)
        if invalid := [key for key in inapplicable if getattr(self, key) != type(self).model_fields[key].default]:
            raise ValueError(f"{invalid[0]!r} is not a setting of the {self.name} loss: remove it or change the name")
        return self


class FitConfig(StrictModel):
    """Settings of a training run, for any task."""

    model_config = ConfigDict(allow_inf_nan=False)

    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    epochs: Auto[PositiveInt] = AUTO
    stop_after: int | None = Field(default=None, ge=1)
    """Epochs after which training ends; the learning rate schedule still covers all `epochs`. null: all epochs."""
    batch_size: Auto[PositiveInt] = AUTO
    """Rows per update, over all processes."""
    micro_batches: int = Field(default=1, ge=1)
    """Micro-batches per batch; doubled whenever the device runs out of memory."""
    eval_batch_size: Auto[PositiveInt] = AUTO
    learning_rate: Auto[PositiveFloat] = AUTO
    final_learning_rate_fraction: float = Field(default=0.01, ge=0, le=1)
    """Final learning rate of the cosine schedule, as a fraction of the peak."""
    warmup_fraction: float = Field(default=0.1, ge=0, lt=1)
    """Fraction of the steps with linear warm-up of the learning rate from zero."""
    weight_decay: float = Field(default=1e-5, ge=0)
    """AdamW's weight decay on weight matrices of the dense part; biases, norms and embeddings have none."""
    gradient_clip: float | None = Field(default=1.0, gt=0)
    """Maximum norm of the gradients together, without those of fused tables; null for no limit."""
    mixout: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a step uses the initial value of a weight of the dense part."""
    weight_average: float = Field(default=0.99, ge=0, lt=1)
    """Decay per step of a moving average of the weights, which is validated and saved in their place; 0 disables it.
    It rises to this value over the first steps. Tables with fused optimizers are not averaged."""
    embeddings: EmbeddingTraining = EmbeddingTraining()
    data: Literal["auto", "resident", "host"] = "auto"
    """Where batches are made. resident: on the device, from a copy of all rows there; host: by a thread, from the
    memory-mapped rows; auto: on a GPU in whose free memory the rows fit, else on the host. The batches are the same."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compiled kernels for the dense part, and on a GPU CUDA graphs of them for models whose shapes only the number of
    rows determines. Compilation takes a minute: auto compiles on a GPU where training reads at least 5,000,000 rows."""
    precision: Precision = "bf16"
    """Precision of the matrix products; weights and the loss are always float32. Training falls back from bf16 to fp32
    if the device does not support it or the loss is not finite."""
    checkpoint_every_s: float = Field(default=300.0, gt=0)
    """Seconds between checkpoints that a killed run resumes from."""

    @model_validator(mode="after")
    def _check_compile(self) -> Self:
        if self.compile == "on" and self.mixout:
            raise ValueError("compile=on cannot be had with mixout, whose weights are new in every step: remove one")
        return self

    def resolved(self, size: DataSize) -> Self:
        """Replaces the settings that are `auto` by those for data of this size."""
        return filled(
            self.model_copy(update={"embeddings": self.embeddings.resolved(size.device)}),
            {
                "epochs": defaults.epochs(size),
                "batch_size": defaults.batch_size(size),
                "eval_batch_size": defaults.eval_batch_size(size),
                "learning_rate": defaults.learning_rate(size, self.batch_size),
                # On a GPU they depend on its free memory and on the model.
                "data": "host" if size.device == "cpu" else AUTO,
                "compile": "off" if size.device == "cpu" else AUTO,
            },
        )


UnseenShare = Annotated[float, Field(ge=0, lt=0.5)]
UNSEEN_SHARE = 0.005
"""Enough to train an id on some ten thousand rows; on Frappe 1 % costs DCN V2 .0012 of its ROC-AUC."""


Seeds = Annotated[int, Field(ge=1, le=1000)]
ParallelFits = Annotated[int, Field(ge=1, le=1000)] | None


class TrainerConfig(FitConfig):
    """Settings of a training run on clicks."""

    seeds: Seeds = 1
    """Fits of each split, with the seeds `seed`, `seed` + 1, ...; predictions are the means of their logits."""
    parallel_fits: ParallelFits = None
    """Fits that train at once, each in its own process with its share of the cores. null: one for every two cores, as
    far as there is memory; 1 on a GPU."""
    loss: LossConfig = LossConfig()
    linear_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of a model's linear part in the logit where no early stopping chooses it. The final fit of a plan has the
    mean share of the folds."""
    unseen_share: UnseenShare = UNSEEN_SHARE
    """Share of the ids of a feature that training replaces by the rare and by the missing id, where these are rarer, so
    that unseen values score like an average one."""
    early_stopping: EarlyStopping | None = EarlyStopping()
    """null: trains all epochs and keeps the last weights."""

    def resolved(self, size: DataSize) -> Self:
        """Replaces the settings that are `auto` by those for data of this size."""
        stopping = self.early_stopping and self.early_stopping.resolved(size)
        embeddings = self.embeddings.resolved(size.device, defaults.EMBEDDING_L2)
        changes = {"early_stopping": stopping, "embeddings": embeddings}
        return super().resolved(size).model_copy(update=changes)
