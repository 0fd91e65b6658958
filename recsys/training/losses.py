"""Losses on logits.

Shapes: B rows of a batch, K branches of a model.
"""

import inspect
import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.data.split import Prior
from recsys.errors import InputError
from recsys.evaluation.logits import LogitLink
from recsys.own_code import is_path, named_object
from recsys.training.config import LossConfig


class RankingLoss(Protocol):
    """A loss of the user's own: a subclass of `torch.nn.Module` with these members.

    The trainer weights the rows, and adds the auxiliary loss of a model; the loss knows only logits and labels.
    """

    pos_weight: float
    """The odds of the best logits over those of p: the weight of positives of a log loss, 1 for a loss without weights.
    """

    def __init__(self, prior: Prior) -> None:
        """Builds the loss from the numbers of positives and negatives of the fitting rows."""
        ...

    def __call__(self, logits: Tensor, label: Tensor) -> Tensor:
        """[B] logits and [B] labels to [B] losses; also [K, B] logits of branches to [K, B] losses."""
        ...


class WeightedLogLoss(nn.Module):
    """w y softplus(-z) + (1 - y) softplus(z): the log loss with weight w on positives.

    Args:
        pos_weight: the weight w.
    """

    def __init__(self, pos_weight: float) -> None:
        super().__init__()
        self.pos_weight = pos_weight

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """[B] logits and [B] labels to [B] losses."""
        losses = functional.softplus(torch.where(label > 0.5, -logits, logits))
        return losses * torch.where(label > 0.5, self.pos_weight, 1.0)


class FocalLoss(nn.Module):
    """alpha_t (1 - v_t)^gamma (-ln v_t), where v_t is the predicted probability of the label.

    Source: Lin et al., "Focal loss for dense object detection", ICCV 2017, equation 5.

    Args:
        gamma: focusing parameter, which lowers the weight of easy rows; 0 gives the log loss.
        alpha: weight of positives; negatives weigh 1 - alpha.
    """

    def __init__(self, gamma: float, alpha: float) -> None:
        super().__init__()
        self.gamma, self.alpha = gamma, alpha

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """[B] logits and [B] labels to [B] losses."""
        error_logit = torch.where(label > 0.5, -logits, logits)  # logit of 1 - v_t
        losses = torch.exp(self.gamma * functional.logsigmoid(error_logit)) * functional.softplus(error_logit)
        return losses * torch.where(label > 0.5, self.alpha, 1.0 - self.alpha)


def disagreement(logits: Tensor, mean: Tensor) -> Tensor:
    """[B] log losses of logits whose labels are the probabilities of the mean's logits, as constants.

    It has no class weights: its minimum is at the mean, for any loss of the mean.
    """
    target = mean.detach().sigmoid()
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")


def branch_losses(losses: Tensor, losses_KB: Tensor, weight: Tensor) -> Tensor:
    """[B] sums of the branches' losses, each times how much higher its mean is than that of the whole model.

    sum_k max(0, mean L_k - mean L) L_k; the factors are constants, and a branch no worse than the whole has none.

    Source: Li et al., "FCN: fusing exponential and linear cross network for click-through rate prediction", KDD 2026
    (arXiv 2407.13349), the Tri-BCE loss.
    NOTE[DIFF]: in the authors' code the factors have gradients too, which lower the weight of the whole model's loss.

    Args:
        losses: [B] losses of the whole model.
        losses_KB: losses of its branches.
        weight: [B] weights of the rows in the means; 0 for rows that do not count.
    """
    share = weight / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)
    excess_K = ((losses_KB - losses) * share).sum(dim=1).clamp(min=0).detach()
    return (excess_K.unsqueeze(1) * losses_KB).sum(dim=0)  # a product of matrices would be rounded to bf16


def build_loss(config: LossConfig, prior: Prior) -> tuple[nn.Module, LogitLink]:
    """Builds the loss, and the link from its logits to probabilities.

    Args:
        config: settings of the loss; `auto` weights balance the classes.
        prior: class prior of the fitting rows.

    Raises:
        InputError: if a loss of the user's own is named by a folder alone, or is not a `RankingLoss`.
    """
    balanced_weight = prior.pos_weight
    if is_path(config.name):
        loss, pos_weight = _own_loss(config.name, prior)
        return loss, LogitLink(pos_weight, balanced_weight, sampling_rate=prior.sampling_rate)
    if config.name == "focal":
        alpha = balanced_weight / (1 + balanced_weight) if config.alpha == "auto" else config.alpha
        link = LogitLink(alpha / (1 - alpha), balanced_weight, config.gamma, prior.sampling_rate)
        return FocalLoss(config.gamma, alpha), link
    weight = balanced_weight if config.pos_weight == "auto" else config.pos_weight
    return WeightedLogLoss(weight), LogitLink(weight, balanced_weight, sampling_rate=prior.sampling_rate)


def _own_loss(path: str, prior: Prior) -> tuple[nn.Module, float]:
    loss_class = named_object(path, f"name it yourself with trainer.loss.name={path}")
    if not (inspect.isclass(loss_class) and issubclass(loss_class, nn.Module)):
        raise InputError(f"{path} is not a class of torch.nn.Module: name the class of the loss")
    loss = loss_class(prior)
    weight = getattr(loss, "pos_weight", None)
    if not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise InputError(
            f"{path} needs pos_weight, a number above 0 by which its logits are corrected to probabilities, "
            f"got {weight!r}: set self.pos_weight = 1.0 if the loss has no weight of positives"
        )
    return loss, float(weight)
