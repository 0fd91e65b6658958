"""What a fit learns: from which rows, in which batches, by which losses, and how its epochs are validated."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from recsys.data.batch import Batch
from recsys.data.loader import Batches
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.errors import InputError
from recsys.evaluation.logits import LogitLink
from recsys.training.config import TrainerConfig
from recsys.training.early_stopping import set_aside
from recsys.training.losses import build_loss


class Objective(nn.Module):
    """The losses of a batch's rows.

    Args:
        model: what is trained.
        uses_collectives: whether `forward` exchanges tensors between processes, so that all of them must split a batch
            into equally many micro-batches.
    """

    def __init__(self, model: nn.Module, uses_collectives: bool = False) -> None:
        super().__init__()
        self.model, self.uses_collectives = model, uses_collectives

    def forward(self, batch: Batch) -> Tensor:
        """[B] losses; those of rows that are not real count for nothing."""
        raise NotImplementedError


class RowLoss(Objective):
    """A loss of each row's logit and label alone, and, weighted, what the model itself wants learned beside it.

    Args:
        model: `forward(batch) -> [B] logits`. Where it has an `auxiliary_weight` above zero, `with_auxiliary(batch)`
            gives [B] losses of its own with the logits.
        loss: `forward(logits, label) -> [B] losses`.
    """

    def __init__(self, model: nn.Module, loss: nn.Module) -> None:
        super().__init__(model)
        self.loss = loss

    def forward(self, batch: Batch) -> Tensor:
        """[B] losses."""
        weight: float = getattr(self.model, "auxiliary_weight", 0.0)
        if not weight:
            return cast(Tensor, self.loss(self.model(batch), batch.label))
        logits, auxiliary = cast(Any, self.model).with_auxiliary(batch)
        return cast(Tensor, self.loss(logits, batch.label) + weight * auxiliary)


@dataclass(frozen=True)
class Validation:
    """Measures the model after each epoch: the best epoch's weights are kept."""

    measure: Callable[[], Mapping[str, float]]
    """The model's figures as it stands, on every process."""
    metric: str
    """The one that is maximised."""
    patience: int
    """Epochs without a better value before training stops."""


@dataclass(frozen=True)
class Task:
    """What a fit learns."""

    rows: Rows
    """Trained on, in each epoch once."""
    batches: Batches
    objective: Objective
    link: LogitLink
    """What the objective does to logits."""
    validation: Validation | None = None
    monitor: Rows | None = None
    """Rows whose clicks the trainer's early stopping looks at, where there is no `validation`."""


def click_task(model: nn.Module, split: Split, monitor: Rows | None, config: TrainerConfig) -> Task:
    """Learns the clicks of a split's fitting rows.

    Args:
        model: `forward(batch) -> [B] logits`.
        split: the rows.
        monitor: rows to judge epochs by; None sets some of the fitting rows aside, if early stopping asks for any.
        config: the loss and early stopping.

    Raises:
        InputError: when no rows are left to train on.
    """
    rows, monitor = set_aside(split.fit_rows, monitor, config.early_stopping, config.seed)
    if len(rows) == 0:
        raise InputError(f"split {split.name!r} has no rows left to train on: give it more, or no early stopping")
    loss, link = build_loss(config.loss, split.prior)
    return Task(rows, split, RowLoss(model, loss), link, monitor=monitor)
