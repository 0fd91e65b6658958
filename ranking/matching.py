"""How well a target goes with a row's behaviours, learned from all that was shown and not from the clicks alone."""

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys.config import StrictModel
from recsys.nn.layers import MLP, concat


class MatchingConfig(StrictModel):
    """Sizes of the matching network, and how much its own loss counts."""

    loss_weight: float = Field(default=1.0, gt=0)
    """Of the matching loss, beside a click loss of weight one."""
    dim: int = Field(default=16, ge=1)
    """D of the vectors whose inner product is the match."""
    hidden_dims: tuple[int, ...] = ()
    """Of an MLP between the pooled behaviours and their vector."""
    max_negatives: int = Field(default=512, ge=1)
    """Targets of the batch that each row's own is told from."""


class Matching(nn.Module):
    """r = u . v of the behaviours' vector u and the target's v.

    Its loss is a softmax over the row's own target and those of other rows of the batch. These come as often as they
    are shown, the own one among them, so that r tends to ln P(target | behaviours) / P(target), up to a constant of the
    row: what behaviours say of a target beyond its popularity (van den Oord et al., "Representation learning with
    contrastive predictive coding", 2018, section 2.3). Every row that was shown teaches it, clicked or not, long before
    the clicks of rare targets could.

    Source: the user-to-item network of DMR (Lyu et al., "Deep match to rank model for personalized click-through rate
    prediction", AAAI 2020, section 3.3).
    NOTE[DIFF]: DMR learns to find a user's last click among sampled items; here behaviours need not be of the targets'
    kind, and the target that was shown is found among those shown to others.

    Args:
        config: sizes.
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
        """[B, D] vectors u and v of the rows, in float32."""
        return self.of_behaviours(concat([behaviours_BX])).float(), self.of_target(concat([target_BX])).float()

    def losses(self, u_BD: Tensor, v_BD: Tensor) -> Tensor:
        """[B] losses of rows with vectors u and targets with vectors v."""
        step = max(1, -(-len(v_BD) // self._max_negatives))
        v_MD = v_BD[::step]  # spread over the batch, whose rows stand in the order of the file
        own_B, others_B = (u_BD * v_BD).sum(dim=1), (u_BD @ v_MD.T).logsumexp(dim=1)
        return torch.logaddexp(own_B, others_B) - own_B
