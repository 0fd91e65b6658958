"""Losses that contrast a request's own item with others."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor


def sampled_softmax(own_B: Tensor, others_B: Tensor) -> Tensor:
    """-ln P(own item) in a softmax over the own item and others: [B] losses.

    With candidates' logits less ln of how often each is expected among those that are sampled, the sum estimates that
    over all items: the own item stands there once for certain, and needs no correction. Source: Bengio and Senecal,
    "Adaptive importance sampling", 2008; Yi et al., "Sampling-bias-corrected neural modeling", RecSys 2019.
    NOTE[DIFF]: the latter corrects the own item's logit too, which makes too much of items that are much of a batch.

    Args:
        own_B: logits of the rows' own items.
        others_B: `log_sum_of_others` of corrected logits.
    """
    return torch.logaddexp(own_B, others_B) - own_B


def unlikelihood(own_B: Tensor, others_B: Tensor) -> Tensor:
    """-ln (1 - P(own item)) in the same softmax, for items that were shown and not clicked: [B] losses.

    Source: Welleck et al., "Neural text generation with unlikelihood training", ICLR 2020, equation 2.
    """
    return torch.logaddexp(own_B, others_B) - others_B


def log_expected_count(share_V: Tensor, n_drawn: int, n_uniform: int, n_items: int) -> Tensor:
    """[V] ln of how often each item is expected among the candidates.

    Args:
        share_V: probability of each item to be a row's own, or to be drawn by popularity.
        n_drawn: candidates that come by it: rows of the batch, and negatives drawn by popularity.
        n_uniform: candidates drawn uniformly.
        n_items: to draw from.
    """
    return (n_drawn * share_V + n_uniform / n_items).clamp(min=1e-12).log()


def log_sum_of_others(x_BD: Tensor, item_MD: Tensor, shift_M: Tensor, id_B: Tensor, id_M: Tensor) -> Tensor:
    """[B] ln sum_m exp(x_b . item_m - shift_m) over the candidates that are not the row's own item, in float32.

    Candidates with the row's own id are accidental hits: they are no negatives, and get no gradient. A few rows' logits
    at a time fit a cache; of all that is made of them only the probabilities are kept for the backward pass, in the
    precision that matrix products have here, and where even these would be too many they are made again.

    Args:
        x_BD: what asks, times 1 / T.
        item_MD: candidates.
        shift_M: what to take from their logits; infinite for those that are out of the question.
        id_B: the rows' own ids.
        id_M: the candidates' ids.
    """
    device = x_BD.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x_BD.dtype
    shift_M = shift_M.detach().clamp(max=_NEVER)
    with torch.autocast(device, enabled=False):
        return cast(Tensor, _LogSumOfOthers.apply(x_BD.to(dtype), item_MD.to(dtype), shift_M, id_B, id_M))


_CHUNK = {"cpu": 1 << 18, "cuda": 1 << 26}  # logits at once
_MOST_KEPT = 1 << 28  # probabilities
_NEVER = 1e30  # what is taken from logits that are to have no weight; finite, so that a row may have no others at all


class _LogSumOfOthers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BD: Tensor, item_MD: Tensor, shift_M: Tensor, id_B: Tensor, id_M: Tensor) -> Tensor:
        sum_B = torch.empty(len(x_BD), device=x_BD.device)
        is_kept = len(x_BD) * len(item_MD) <= _MOST_KEPT
        p_BM = x_BD.new_empty(len(x_BD), len(item_MD)) if is_kept else None
        for rows in _chunks(x_BD, item_MD):
            p, sum_B[rows] = _softmax(x_BD[rows], item_MD, shift_M, id_B[rows], id_M)
            if p_BM is not None:
                p_BM[rows] = p
        ctx.save_for_backward(x_BD, item_MD, shift_M, id_B, id_M, p_BM)
        return sum_B.masked_fill_(sum_B < -_NEVER / 2, -torch.inf)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x_BD, item_MD, shift_M, id_B, id_M, p_BM = ctx.saved_tensors
        gradient_B1 = gradients[0].unsqueeze(1)
        scaled_BD = (gradient_B1 * x_BD).to(x_BD.dtype)
        if p_BM is not None:
            return (gradient_B1 * (p_BM @ item_MD)).to(x_BD.dtype), p_BM.T @ scaled_BD, None, None, None
        of_x, of_items = torch.empty_like(x_BD), torch.zeros_like(item_MD, dtype=torch.float32)
        for rows in _chunks(x_BD, item_MD):
            p = _softmax(x_BD[rows], item_MD, shift_M, id_B[rows], id_M)[0].to(x_BD.dtype)
            of_x[rows] = gradient_B1[rows] * (p @ item_MD)
            of_items += p.T @ scaled_BD[rows]
        return of_x, of_items.to(item_MD.dtype), None, None, None


def _softmax(x_BD: Tensor, item_MD: Tensor, shift_M: Tensor, id_B: Tensor, id_M: Tensor) -> tuple[Tensor, Tensor]:
    """[B, M] probabilities among the others, and the [B] logarithms of the sums that they were divided by."""
    logits_BM = (x_BD @ item_MD.T).float().sub_(shift_M)
    logits_BM.masked_fill_(id_B.unsqueeze(1) == id_M, -_NEVER)
    p_BM = logits_BM.softmax(dim=1)
    return p_BM, logits_BM.amax(dim=1) - p_BM.amax(dim=1).log()


def _chunks(x_BD: Tensor, item_MD: Tensor) -> Iterator[slice]:
    size = max(1, _CHUNK[x_BD.device.type] // max(1, len(item_MD)))
    for start in range(0, len(x_BD), size):
        yield slice(start, start + size)
