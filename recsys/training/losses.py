"""Losses on logits.

Shapes: B rows of a batch.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.data.split import Prior
from recsys.evaluation.logits import LogitLink
from recsys.training.config import LossConfig


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


def build_loss(config: LossConfig, prior: Prior) -> tuple[nn.Module, LogitLink]:
    """Builds the loss, and the link from its logits to probabilities.

    Args:
        config: settings of the loss; `auto` weights balance the classes.
        prior: class prior of the fitting rows.
    """
    balanced_weight = prior.pos_weight
    if config.name == "focal":
        alpha = balanced_weight / (1 + balanced_weight) if config.alpha == "auto" else config.alpha
        link = LogitLink(alpha / (1 - alpha), balanced_weight, config.gamma, prior.sampling_rate)
        return FocalLoss(config.gamma, alpha), link
    weight = balanced_weight if config.pos_weight == "auto" else config.pos_weight
    return WeightedLogLoss(weight), LogitLink(weight, balanced_weight, sampling_rate=prior.sampling_rate)
