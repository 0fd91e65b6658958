"""A training task: its rows, batches, losses and validation.

Shapes: B rows of a batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from recsys.data.batch import Batch
from recsys.data.loader import Batches
from recsys.data.rows import Rows
from recsys.data.split import Split, UnseenIds
from recsys.evaluation.logits import LogitLink
from recsys.nn.traits import HasAuxiliaryLoss, auxiliary_weight_of
from recsys.training.config import TrainerConfig
from recsys.training.early_stopping import split_monitored_rows
from recsys.training.losses import build_loss


class Objective(nn.Module):
    """Computes the loss of each row of a batch.

    Args:
        model: the model to train.
        uses_collectives: whether `forward` exchanges tensors between processes, so that all processes must use the same
            number of micro-batches.
    """

    def __init__(self, model: nn.Module, uses_collectives: bool = False) -> None:
        super().__init__()
        self.model, self.uses_collectives = model, uses_collectives

    def forward(self, batch: Batch) -> Tensor:
        """[B] losses; the step ignores those of rows that are not real."""
        raise NotImplementedError


class RowLoss(Objective):
    """A loss of each row's logit and label, plus the model's weighted auxiliary loss if it has one.

    Args:
        model: `forward(batch) -> [B] logits`. See `recsys.nn.traits` for its auxiliary loss.
        loss: `forward(logits, label) -> [B] losses`.
    """

    def __init__(self, model: nn.Module, loss: nn.Module) -> None:
        super().__init__(model)
        self.loss, self.auxiliary_weight = loss, auxiliary_weight_of(model)

    def forward(self, batch: Batch) -> Tensor:
        """[B] losses."""
        if not self.auxiliary_weight:
            return cast(Tensor, self.loss(self.model(batch), batch.label))
        logits, auxiliary = cast(HasAuxiliaryLoss, self.model).with_auxiliary(batch)
        return cast(Tensor, self.loss(logits, batch.label) + self.auxiliary_weight * auxiliary)


@dataclass(frozen=True)
class Validation:
    """Evaluation of the model after each epoch; the best epoch's weights are kept."""

    measure: Callable[[], Mapping[str, float]]
    """Computes the metrics of the current model, on every process."""
    metric: str
    """Name of the metric to maximize."""
    patience: int
    """Epochs without improvement before training stops."""

    @property
    def weights(self) -> dict[str, float]:
        """The metric as a composite metric of itself."""
        return {self.metric: 1.0}


@dataclass(frozen=True)
class Task:
    """A training task."""

    rows: Rows
    """Training rows; each epoch uses each row once."""
    batches: Batches
    objective: Objective
    link: LogitLink
    """Link from the logits to probabilities, which depends on the objective."""
    validation: Validation | None = None
    monitor: Rows | None = None
    """Rows on whose clicks the trainer's early stopping evaluates, if `validation` is None."""


def click_task(model: nn.Module, split: Split, monitor: Rows | None, config: TrainerConfig) -> Task:
    """Builds the task of predicting clicks, on a split's fitting rows.

    Args:
        model: `forward(batch) -> [B] logits`.
        split: the split with the fitting rows.
        monitor: rows for early stopping; None holds out some of the fitting rows if early stopping is on.
        config: settings of the loss and early stopping.

    Raises:
        InputError: if no rows are left to train on, or the monitored rows lack a class.
    """
    rows, monitor = split_monitored_rows(split, monitor, config.early_stopping, config.seed)
    loss, link = build_loss(config.loss, split.prior)
    batches = UnseenIds(split, config.unseen_share, config.seed)
    return Task(rows, batches, RowLoss(model, loss), link, monitor=monitor)
