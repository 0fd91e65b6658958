"""A matching network: scores targets against a row's behaviours, trained on all impressions and not on clicks alone.

Source: Lyu et al., "Deep match to rank model for personalized click-through rate prediction", AAAI 2020 (DMR).

Shapes: B rows of a batch, M targets scored against each row, D width of the compared vectors, X width of an input.
"""

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from recsys.config import StrictModel
from recsys.nn.layers import MLP, concat


class MatchingConfig(StrictModel):
    """Hyperparameters of the matching network."""

    loss_weight: float = Field(default=1.0, gt=0)
    """Weight of the matching loss; the click loss has weight one."""
    dim: int = Field(default=16, ge=1)
    """D, width of the vectors whose inner product is the score."""
    hidden_dims: tuple[PositiveInt, ...] = ()
    """Widths of an MLP between the pooled behaviours and their vector."""
    max_negatives: int = Field(default=512, ge=1)
    """Targets of the batch that each row's target is contrasted with."""


class Matching(nn.Module):
    """Computes a matching score r = u . v from the vectors u of a row's behaviours and v of its target.

    The loss is a softmax over the row's target and targets of the batch's rows. Negatives, which include the row's
    target, occur as often as they are shown. So r estimates ln (P(target | behaviours) / P(target)) up to a constant of
    the row, the effect of the behaviours beyond the target's popularity (van den Oord et al., "Representation learning
    with contrastive predictive coding", 2018, section 2.3). All impressions are samples, clicked or not; rare targets
    have too few clicks to learn from.

    Source: DMR, the user-to-item network of section 3.3.
    NOTE[DIFF]: DMR predicts a user's last click among sampled items. This network predicts the target shown to a row
    among targets shown to other rows; behaviours need not be target items.

    Args:
        config: hyperparameters.
        d_behaviours: width of the pooled behaviours.
        d_target: width of the target's embedding.
    """

    def __init__(self, config: MatchingConfig, d_behaviours: int, d_target: int) -> None:
        super().__init__()
        hidden = MLP(d_behaviours, config.hidden_dims, dropout=0.0)
        self.of_behaviours = nn.Sequential(hidden, nn.Linear(hidden.d_out, config.dim))
        self.of_target = nn.Linear(d_target, config.dim, bias=False)
        self._max_negatives = config.max_negatives

    def forward(self, behaviours_BX: Tensor, target_BX: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the [B, D] float32 vectors u and v of the rows."""
        return self.of_behaviours(concat([behaviours_BX])).float(), self.of_target(concat([target_BX])).float()

    def losses(self, u_BD: Tensor, v_BD: Tensor) -> Tensor:
        """Returns the [B] losses of rows with vectors u and targets with vectors v."""
        step = max(1, -(-len(v_BD) // self._max_negatives))
        v_MD = v_BD[::step]  # evenly spaced: the rows of a batch are in file order
        positive_B, negatives_B = (u_BD * v_BD).sum(dim=1), (u_BD @ v_MD.T).logsumexp(dim=1)
        return torch.logaddexp(positive_B, negatives_B) - positive_B
