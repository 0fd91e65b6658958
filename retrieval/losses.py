"""Losses that contrast a request's own ad with others."""

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

    With logits less ln of how often a candidate is expected among the sampled ones, the sum is an estimate of that over
    all ads. Source: Bengio and Senecal, "Adaptive importance sampling", 2008; Yi et al., "Sampling-bias-corrected
    neural modeling", RecSys 2019, equation 4.

    Args:
        own_B: corrected logits of the rows' own ads.
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
