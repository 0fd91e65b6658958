"""Losses that contrast a request's own ad with others."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor


def sampled_softmax(own_B: Tensor, others_B: Tensor) -> Tensor:
    """-ln P(own ad) in a softmax over the own ad and others: [B] losses.

    With candidates' logits less ln of how often each is expected among those that are sampled, the sum estimates that
    over all ads: the own ad stands there once for certain, and needs no correction. Source: Bengio and Senecal,
    "Adaptive importance sampling", 2008; Yi et al., "Sampling-bias-corrected neural modeling", RecSys 2019.
    NOTE[DIFF]: the latter corrects the own ad's logit too, which makes too much of ads that are much of a batch.

    Args:
        own_B: logits of the rows' own ads.
        others_B: `log_sum_of_others` of corrected logits.
    """
    return torch.logaddexp(own_B, others_B) - own_B


def unlikelihood(own_B: Tensor, others_B: Tensor) -> Tensor:
    """-ln (1 - P(own ad)) in the same softmax, for ads that were shown and not clicked: [B] losses.

    Source: Welleck et al., "Neural text generation with unlikelihood training", ICLR 2020, equation 2.
    """
    return torch.logaddexp(own_B, others_B) - others_B


def log_expected_count(share_V: Tensor, n_drawn: int, n_uniform: int, n_ads: int) -> Tensor:
    """[V] ln of how often each ad is expected among the candidates.

    Args:
        share_V: probability of each ad to be a row's own, or to be drawn by popularity.
        n_drawn: candidates that come by it: rows of the batch, and negatives drawn by popularity.
        n_uniform: candidates drawn uniformly.
        n_ads: to draw from.
    """
    return (n_drawn * share_V + n_uniform / n_ads).clamp(min=1e-12).log()


def log_sum_of_others(x_BD: Tensor, ad_MD: Tensor, shift_M: Tensor, id_B: Tensor, id_M: Tensor) -> Tensor:
    """[B] ln sum_m exp(x_b . ad_m - shift_m) over the candidates that are not the row's own ad, in float32.

    Candidates with the row's own id are accidental hits: they are no negatives, and get no gradient. The [B, M] logits
    are never there as a whole: a few rows at a time fit a cache, and the backward pass makes them again, in the
    precision that matrix products have here.

    Args:
        x_BD: what asks, times 1 / T.
        ad_MD: candidates.
        shift_M: what to take from their logits; infinite for those that are out of the question.
        id_B: the rows' own ids.
        id_M: the candidates' ids.
    """
    device = x_BD.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x_BD.dtype
    with torch.autocast(device, enabled=False):
        return cast(Tensor, _LogSumOfOthers.apply(x_BD.to(dtype), ad_MD.to(dtype), shift_M.detach(), id_B, id_M))


_CHUNK = {"cpu": 1 << 19, "cuda": 1 << 26}  # logits at once


class _LogSumOfOthers(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BD: Tensor, ad_MD: Tensor, shift_M: Tensor, id_B: Tensor, id_M: Tensor) -> Tensor:
        found_B = torch.empty(len(x_BD), device=x_BD.device)
        for rows in _chunks(x_BD, ad_MD):
            found_B[rows] = _logits(x_BD[rows], ad_MD, shift_M, id_B[rows], id_M).logsumexp(dim=1)
        ctx.save_for_backward(x_BD, ad_MD, shift_M, id_B, id_M, found_B)
        return found_B

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x_BD, ad_MD, shift_M, id_B, id_M, found_B = ctx.saved_tensors
        sum_B = torch.where(found_B == -torch.inf, 0.0, found_B)  # no negative at all: no gradient
        of_x, of_ads = torch.empty_like(x_BD), torch.zeros_like(ad_MD, dtype=torch.float32)
        for rows in _chunks(x_BD, ad_MD):
            p = _logits(x_BD[rows], ad_MD, shift_M, id_B[rows], id_M).sub_(sum_B[rows].unsqueeze(1)).exp_()
            p = p.mul_(gradients[0][rows].unsqueeze(1)).to(x_BD.dtype)
            of_x[rows] = p @ ad_MD
            of_ads += p.T @ x_BD[rows]
        return of_x, of_ads.to(ad_MD.dtype), None, None, None


def _logits(x_BD: Tensor, ad_MD: Tensor, shift_M: Tensor, id_B: Tensor, id_M: Tensor) -> Tensor:
    logits_BM = (x_BD @ ad_MD.T).float().sub_(shift_M)
    return logits_BM.masked_fill_(id_B.unsqueeze(1) == id_M, -torch.inf)


def _chunks(x_BD: Tensor, ad_MD: Tensor) -> Iterator[slice]:
    size = max(1, _CHUNK[x_BD.device.type] // max(1, len(ad_MD)))
    for start in range(0, len(x_BD), size):
        yield slice(start, start + size)
