"""Mixout: replaces weights by their initial values at random."""

import torch
from torch import Tensor, nn


class Mixout:
    """Replaces each weight w by its anchor a with probability p and corrects the mean:
    ((1 - m) w + m a - p a) / (1 - p), whose mean is w.

    Source: Lee, Cho and Kang, "Mixout", ICLR 2020, section 3.
    NOTE[DIFF]: the paper's anchor is a pretrained model; here it is the model at the start of training.

    Args:
        model: the model; each call reads its current parameters.
        names: names of the weight matrices to mix.
        probability: p; 0 disables mixout.
    """

    def __init__(self, model: nn.Module, names: list[str], probability: float) -> None:
        self._model, self._p = model, probability
        weights = dict(model.named_parameters())
        self.anchors = {name: weights[name].detach().clone() for name in names} if probability else {}

    def weights(self) -> dict[str, Tensor]:
        """Draws mixed weights by name; gradients flow through them to the model's weights."""
        parameters = dict(self._model.named_parameters()) if self.anchors else {}
        return {name: self._mix(parameters[name], anchor) for name, anchor in self.anchors.items()}

    def _mix(self, weight: Tensor, anchor: Tensor) -> Tensor:
        is_anchor = torch.rand_like(weight) < self._p
        return (torch.where(is_anchor, anchor, weight) - self._p * anchor) / (1 - self._p)
