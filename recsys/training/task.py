"""A training task: its rows, batches, losses and validation.

Shapes: B rows of a batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from recsys.data.batch import Batch
from recsys.data.loader import Batches
from recsys.data.rows import Rows
from recsys.data.split import Split, UnseenIds
from recsys.errors import InputError
from recsys.evaluation.logits import LogitLink
from recsys.nn.layers import has_dropout, mean_logit
from recsys.nn.traits import HasAuxiliaryLoss, HasBranches, HasMembers, auxiliary_weight_of, branches_of
from recsys.training.config import TrainerConfig
from recsys.training.early_stopping import split_monitored_rows
from recsys.training.losses import branch_losses, build_loss, disagreement


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

    The loss of a model with members is the mean of theirs.

    The self-ensemble loss is that of the mean probability of two passes, which differ in their dropout, plus the log
    loss of each pass with that mean as its label. A step has looked up the embeddings once, for both passes.

    Source: Li et al., "Revisiting feature interactions from the perspective of quadratic neural networks for
    click-through rate prediction", KDD 2025 (arXiv 2505.17999). The mean is that of probabilities, as in the authors'
    code: then both losses are of the same prediction.

    Args:
        model: `forward(batch) -> [B] logits`. See `recsys.nn.traits` for its auxiliary loss and its branches.
        loss: `forward(logits, label) -> [B] losses`.
        self_ensemble: weight of each pass's loss against the mean; 0 for a single pass.
        branches: weight of the losses of the model's branches, see `branch_losses`; 0 for none.

    Raises:
        InputError: if the model lacks what a weight above zero needs.
    """

    def __init__(self, model: nn.Module, loss: nn.Module, self_ensemble: float = 0.0, branches: float = 0.0) -> None:
        super().__init__(model)
        self.loss, self.auxiliary_weight = loss, auxiliary_weight_of(model)
        self.self_ensemble, self.branches = self_ensemble, branches
        name = type(model).__name__
        if isinstance(model, HasMembers) and (self_ensemble or branches or self.auxiliary_weight):
            raise InputError(
                f"{name} has members, each with a loss of its own, and no other: set trainer.loss.self_ensemble, "
                "trainer.loss.branches and the weight of its auxiliary loss to 0"
            )
        if self_ensemble and not has_dropout(model):
            raise InputError(
                f"trainer.loss.self_ensemble needs a model with dropout, whose two passes differ, and {name} has none: "
                "raise model.dropout, or set self_ensemble=0"
            )
        if branches and not branches_of(model):
            raise InputError(
                f"trainer.loss.branches needs a model with parallel branches, and {name} has none with these settings: "
                "choose dcnv2 with structure=parallel or xdeepfm, or set branches=0"
            )
        if branches and self.auxiliary_weight:
            raise InputError(f"trainer.loss.branches: {name} has an auxiliary loss, set its weight or branches to 0")

    def forward(self, batch: Batch) -> Tensor:
        """[B] losses."""
        if isinstance(self.model, HasMembers):
            return cast(Tensor, self.loss(self.model.member_logits(batch), batch.label).mean(0))
        logits, extra = self._one_pass(batch)
        if self.self_ensemble:
            second, second_extra = self._one_pass(batch)
            mean = mean_logit(torch.stack([logits, second]))
            agreement = disagreement(logits, mean) + disagreement(second, mean)
            losses = self.loss(mean, batch.label) + self.self_ensemble * agreement
            extra = None if extra is None or second_extra is None else (extra + second_extra) / 2
        else:
            losses = self.loss(logits, batch.label)
        return cast(Tensor, losses if extra is None else losses + extra)

    def _one_pass(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The [B] logits of one pass, and the [B] weighted losses that are added to that of the logits."""
        if self.auxiliary_weight:
            logits, auxiliary = cast(HasAuxiliaryLoss, self.model).with_auxiliary(batch)
            return logits, self.auxiliary_weight * auxiliary
        if not self.branches:
            return self.model(batch), None
        logits, logits_KB = cast(HasBranches, self.model).with_branches(batch)
        weight = batch.is_real.to(logits.dtype)
        weight = weight if batch.weight is None else weight * batch.weight
        losses, losses_KB = self.loss(logits, batch.label), self.loss(logits_KB, batch.label)
        return logits, self.branches * branch_losses(losses, losses_KB, weight)


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
        InputError: if no rows are left to train on, the monitored rows lack a class, or the model lacks what the loss
            needs.
    """
    rows, monitor = split_monitored_rows(split, monitor, config.early_stopping, config.seed)
    loss, link = build_loss(config.loss, split.prior)
    batches = UnseenIds(split, config.unseen_share, config.seed)
    objective = RowLoss(model, loss, config.loss.self_ensemble, config.loss.branches)
    return Task(rows, batches, objective, link, monitor=monitor)
