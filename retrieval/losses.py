"""What the towers' losses add to the sampled softmax."""

import torch
from torch import Tensor


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
