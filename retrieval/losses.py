"""Losses that contrast a request's own ad with others."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor


def softmax_terms(own_B: Tensor, other_BC: Tensor, is_hit_BC: Tensor) -> tuple[Tensor, Tensor]:
    """[B] ln of the sums over the softmax's terms: all of them, and the negatives' alone.

    Args:
        own_B: logits of the rows' own ads.
        other_BC: logits of C candidates for each row.
        is_hit_BC: candidates that are the row's own ad: accidental hits, never negatives.
    """
    negatives_B = other_BC.masked_fill(is_hit_BC, -torch.inf).logsumexp(dim=1)
    return torch.logaddexp(own_B, negatives_B), negatives_B


def sampled_softmax(own_B: Tensor, other_BC: Tensor, is_hit_BC: Tensor) -> Tensor:
    """-ln P(own ad) in a softmax over the own ad and the candidates: [B] losses.

    With candidates' logits less ln of how often each is expected among those that are sampled, the sum estimates that
    over all ads: the own ad stands there once for certain, and needs no correction. Source: Bengio and Senecal,
    "Adaptive importance sampling", 2008; Yi et al., "Sampling-bias-corrected neural modeling", RecSys 2019.
    NOTE[DIFF]: the latter corrects the own ad's logit too, which makes too much of ads that are much of a batch.

    Args:
        own_B: logits of the rows' own ads.
        other_BC: corrected logits of the candidates.
        is_hit_BC: candidates that are the row's own ad.
    """
    all_B, _ = softmax_terms(own_B, other_BC, is_hit_BC)
    return all_B - own_B


def unlikelihood(own_B: Tensor, other_BC: Tensor, is_hit_BC: Tensor) -> Tensor:
    """-ln (1 - P(own ad)) in the same softmax, for ads that were shown and not clicked: [B] losses.

    Source: Welleck et al., "Neural text generation with unlikelihood training", ICLR 2020, equation 2.
    """
    all_B, negatives_B = softmax_terms(own_B, other_BC, is_hit_BC)
    return all_B - negatives_B


def log_expected_count(share_V: Tensor, n_drawn: int, n_uniform: int, n_ads: int) -> Tensor:
    """[V] ln of how often each ad is expected among the candidates.

    Args:
        share_V: probability of each ad to be a row's own, or to be drawn by popularity.
        n_drawn: candidates that come by it: rows of the batch, and negatives drawn by popularity.
        n_uniform: candidates drawn uniformly.
        n_ads: to draw from.
    """
    return (n_drawn * share_V + n_uniform / n_ads).clamp(min=1e-12).log()


def full_softmax(x_SD: Tensor, ad_AD: Tensor, target_S: Tensor) -> Tensor:
    """-ln P(target) in a softmax over all ads, [S] losses; 0 where the target is -1.

    The [S, A] logits are never there as a whole: a few rows at a time fit a cache, and the backward pass makes them
    again, in the precision that matrix products have here.

    Args:
        x_SD: what asks, times 1 / T.
        ad_AD: all ads.
        target_S: places among them.
    """
    device = x_SD.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x_SD.dtype
    with torch.autocast(device, enabled=False):
        return cast(Tensor, _FullSoftmax.apply(x_SD.to(dtype), ad_AD.to(dtype), target_S))


_CHUNK = {"cpu": 1 << 19, "cuda": 1 << 26}  # logits at once


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_SD: Tensor, ad_AD: Tensor, target_S: Tensor) -> Tensor:
        log_sum_S = torch.empty(len(x_SD), device=x_SD.device)
        own_S = torch.empty_like(log_sum_S)
        place_S = target_S.clamp(min=0)
        for rows in _chunks(x_SD, ad_AD):
            logits = (x_SD[rows] @ ad_AD.T).float()
            own_S[rows] = logits.gather(1, place_S[rows].unsqueeze(1)).squeeze(1)
            highest = logits.amax(dim=1, keepdim=True)
            log_sum_S[rows] = logits.sub_(highest).exp_().sum(dim=1).log_() + highest.squeeze(1)
        ctx.save_for_backward(x_SD, ad_AD, target_S, log_sum_S)
        return torch.where(target_S >= 0, log_sum_S - own_S, 0.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x_SD, ad_AD, target_S, log_sum_S = ctx.saved_tensors
        gradient_S = torch.where(target_S >= 0, gradients[0], 0.0)
        place_S = target_S.clamp(min=0)
        of_x, of_ads = torch.empty_like(x_SD), torch.zeros_like(ad_AD, dtype=torch.float32)
        for rows in _chunks(x_SD, ad_AD):
            p = (x_SD[rows] @ ad_AD.T).float().sub_(log_sum_S[rows].unsqueeze(1)).exp_()
            p.scatter_add_(1, place_S[rows].unsqueeze(1), p.new_full((len(p), 1), -1.0))
            p = p.mul_(gradient_S[rows].unsqueeze(1)).to(x_SD.dtype)
            of_x[rows] = p @ ad_AD
            of_ads += p.T @ x_SD[rows]
        return of_x, of_ads.to(ad_AD.dtype), None


def _chunks(x_SD: Tensor, ad_AD: Tensor) -> Iterator[slice]:
    size = max(1, _CHUNK[x_SD.device.type] // len(ad_AD))
    for start in range(0, len(x_SD), size):
        yield slice(start, start + size)
