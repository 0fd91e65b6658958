"""Mixout: weights that now and then read as their initial values."""

import torch
from torch import Tensor, nn


class Mixout:
    """Each weight of a matrix reads as its anchor with probability p, and as corrected for that otherwise:
    ((1 - m) w + m a - p a) / (1 - p), whose mean is w.

    Source: Lee, Cho and Kang, "Mixout", ICLR 2020, section 3.
    NOTE[DIFF]: the paper's anchor is a pretrained model; here it is the model as it was when training began.

    Args:
        model: the model; its parameters are read anew at each step.
        names: of the weight matrices to mix.
        probability: p; 0 mixes nothing.
    """

    def __init__(self, model: nn.Module, names: list[str], probability: float) -> None:
        self._model, self._p = model, probability
        weights = dict(model.named_parameters())
        self.anchors = {name: weights[name].detach().clone() for name in names} if probability else {}

    def weights(self) -> dict[str, Tensor]:
        """Freshly mixed weights by name, through which gradients reach the model's own."""
        own = dict(self._model.named_parameters()) if self.anchors else {}
        return {name: self._mix(own[name], anchor) for name, anchor in self.anchors.items()}

    def _mix(self, weight: Tensor, anchor: Tensor) -> Tensor:
        is_anchor = torch.rand_like(weight) < self._p
        return (torch.where(is_anchor, anchor, weight) - self._p * anchor) / (1 - self._p)
