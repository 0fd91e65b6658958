"""SDIM: pools all events of a history that share hash signatures with the target, at linear cost.

Source: Cao et al., "Sampling is all you need on modeling long-term user behaviors for CTR prediction", CIKM 2022
(arXiv 2205.10249). The hashes are those of Charikar, "Similarity estimation techniques from rounding algorithms",
STOC 2002.

Shapes: B rows of a batch, T events of all rows, L events of a padded history, N candidates of a row, M hashes, G groups
of hashes, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

_SEED = 0


class SDIM(nn.Module):
    """Pools events by the sampled attention of a target: the events whose signature is that of the target.

    A hash of x is the sign of its product with a fixed normal vector; the signature of a group is made of
    w = `hash_width` hashes. An event h has the signature of a target t with probability (1 - angle(h, t) / pi)^w, which
    is thus the expected attention weight of the event. pooled = 1/G sum_g normalized(sum of the events with the
    target's signature in group g), where normalized(x) = x / |x|; zeros for a history without such events.

    The hashes have no gradient. They are the same in every model, and stored with it.

    Args:
        dim: D, width of an event and of the target.
        n_hashes: M.
        hash_width: w, hashes of a group; it divides M.
    """

    hashes: Tensor
    """[D, M] float32 normal vectors."""
    powers: Tensor
    """[M, G] float32: maps the bits of each group to a number."""

    def __init__(self, dim: int, n_hashes: int, hash_width: int) -> None:
        super().__init__()
        # a generator of its own: the initial weights of a model do not depend on its hashes
        self.register_buffer("hashes", torch.randn(dim, n_hashes, generator=torch.Generator().manual_seed(_SEED)))
        bits = 2.0 ** torch.arange(hash_width).unsqueeze(1)
        to_numbers = torch.block_diag(*[bits] * (n_hashes // hash_width))
        self.register_buffer("powers", to_numbers, persistent=False)

    @torch.no_grad()
    def signatures(self, x: Tensor) -> Tensor:
        """Returns the [..., G] signatures of [..., D] vectors: whole numbers as float32."""
        with torch.autocast(x.device.type, enabled=False):
            return (x.float() @ self.hashes > 0).float() @ self.powers

    def forward(self, x_TD: Tensor, length_B: Tensor, max_length: int, target_BD: Tensor) -> Tensor:
        """Returns the [B, D] pooled events of each row.

        Args:
            x_TD: events.
            length_B: number of events of each row.
            max_length: most events that a row may have.
            target_BD: the target of each row.
        """
        offsets = [functional.pad(length_B.cumsum(0), (1, 0))]
        padded = torch.ops.fbgemm.jagged_to_padded_dense
        x_BLD = padded(x_TD, offsets, [max_length], 0.0)
        signature_BLG = padded(self.signatures(x_TD), offsets, [max_length], 0.0)
        return self._pool(x_BLD, signature_BLG, target_BD.unsqueeze(1)).squeeze(1)

    def of_candidates(self, x_BLD: Tensor, target_BND: Tensor) -> Tensor:
        """Returns the [B, N, D] pooled events of padded histories, zeros in the padding, for N targets of each row."""
        return self._pool(x_BLD, self.signatures(x_BLD), target_BND)

    def _pool(self, x_BLD: Tensor, signature_BLG: Tensor, target_BND: Tensor) -> Tensor:
        """The padding may have any signature: its events are zeros."""
        target_BNG1 = self.signatures(target_BND).unsqueeze(3)
        is_match_BNGL = (signature_BLG.transpose(1, 2).unsqueeze(1) == target_BNG1).to(x_BLD.dtype)
        sum_BND = is_match_BNGL.flatten(1, 2) @ x_BLD
        unit_BNGD = functional.normalize(sum_BND.float(), dim=2).unflatten(1, is_match_BNGL.shape[1:3])
        return unit_BNGD.mean(dim=2).to(x_BLD.dtype)
