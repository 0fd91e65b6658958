"""Multi-head attention in plain torch."""

import torch
from torch import Tensor

from recsys.nn.attention import attend_by_kernel


def heads_attend(query: Tensor | None, packed: Tensor, n_heads: int, factor: Tensor | float = 1.0) -> Tensor:
    """`recsys.nn.attention.attend` in float64, with a factor for each weight in place of dropout."""
    parts = packed.chunk(3, dim=2) if query is None else (query, *packed.chunk(2, dim=2))
    q, k, v = (x.double().unflatten(2, (n_heads, -1)).transpose(1, 2) for x in parts)
    weights = ((q @ k.transpose(2, 3)) * q.shape[3] ** -0.5).softmax(3)
    return ((weights * factor) @ v).transpose(1, 2).flatten(2)


def probe_kept(query: Tensor | None, packed: Tensor, seed: Tensor, n_heads: int, dropout: float) -> Tensor:
    """Which weights the kernel keeps, found by values that are zero but for those of one key: [B, H, Q, K]."""
    width = packed.shape[2] // (3 if query is None else 2)
    kept = []
    for key in range(packed.shape[1]):
        probe = packed.detach().clone()
        probe[..., -width:] = 0
        probe[:, key, -width:] = 1
        out = attend_by_kernel(None if query is None else query.detach(), probe, seed, n_heads, dropout)[0]
        kept.append((out.unflatten(2, (n_heads, -1))[..., 0] != 0).transpose(1, 2))
    return torch.stack(kept, dim=3).double()
