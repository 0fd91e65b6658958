"""Softmax losses of a request's positive item against sampled or in-batch negatives.

Shapes: B rows of a batch, M candidates scored against each row, D width of a vector, V ids of the target item.
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional


def sampled_softmax(positive_B: Tensor, negatives_B: Tensor) -> Tensor:
    """Returns [B] losses -ln P(positive) of a softmax over the positive and the negatives.

    A candidate's corrected logit is its logit minus ln of its expected count in the sample. The sum over candidates
    then estimates the sum over all items. The positive occurs exactly once and needs no correction.

    Source: Bengio and Senecal, "Adaptive importance sampling", 2008; Yi et al., "Sampling-bias-corrected neural
    modeling", RecSys 2019.
    NOTE[DIFF]: Yi et al. also correct the positive's logit, which overestimates items that are frequent in a batch.

    Args:
        positive_B: logits of the rows' positives.
        negatives_B: `logsumexp_negatives` of corrected logits.
    """
    return torch.logaddexp(positive_B, negatives_B) - positive_B


def unlikelihood(item_B: Tensor, negatives_B: Tensor) -> Tensor:
    """Returns [B] losses -ln (1 - P(item)) of the same softmax, for items that were shown but not clicked.

    Source: Welleck et al., "Neural text generation with unlikelihood training", ICLR 2020, equation 2.
    """
    return torch.logaddexp(item_B, negatives_B) - negatives_B


def gbce(positive_B: Tensor, negative_BM: Tensor, is_hit_BM: Tensor, power: float) -> Tensor:
    """Returns [B] losses -(power ln sigmoid(positive) + sum_m ln(1 - sigmoid(negative_m))) / (1 + number of negatives).

    The power below one undoes the overconfidence that few sampled negatives bring about.

    Source: Petrov and Macdonald, "gSASRec: reducing overconfidence in sequential recommendation trained with negative
    sampling", RecSys 2023, equation 8.

    Args:
        positive_B: logits of the rows' positives.
        negative_BM: logits of the negatives.
        is_hit_BM: whether a negative is the row's positive; these do not count.
        power: beta, by `gbce_power`.
    """
    softplus_BM = functional.softplus(negative_BM.float()).masked_fill(is_hit_BM, 0.0)
    n_negatives_B = (~is_hit_BM).sum(dim=1)
    return (power * functional.softplus(-positive_B.float()) + softplus_BM.sum(dim=1)) / (1 + n_negatives_B)


def gbce_power(n_negatives: int, n_items: int, calibration: float) -> float:
    """Returns beta = alpha (t (1 - 1 / alpha) + 1 / alpha), where alpha is the sampling rate of negatives.

    Args:
        n_negatives: negatives of a positive.
        n_items: items of the catalog.
        calibration: t; 0 is the usual binary cross-entropy, 1 is calibrated to the probabilities of all items.
    """
    alpha = min(1.0, n_negatives / max(1, n_items - 1))
    return alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)


def log_expected_count(share_V: Tensor, n_drawn: int | Tensor, n_uniform: int, n_items: int) -> Tensor:
    """Returns [V] ln of the expected count of each item among the candidates.

    Args:
        share_V: probability that a row or a popularity-sampled negative has the item.
        n_drawn: [] candidates with that distribution: rows of the batch and popularity-sampled negatives.
        n_uniform: uniformly sampled candidates.
        n_items: items of the catalog.
    """
    return (n_drawn * share_V + n_uniform / n_items).clamp(min=1e-12).log()


def logsumexp_negatives(x_BD: Tensor, item_MD: Tensor, shift_M: Tensor, id_B: Tensor, id_M: Tensor) -> Tensor:
    """Returns [B] float32 ln sum_m exp(x_b . item_m - shift_m) over the candidates other than the row's positive.

    Candidates with the positive's id are accidental hits: they are excluded and get no gradient. Logits are computed in
    chunks of rows that fit the cache. Only probabilities are stored for the backward pass, in the autocast dtype; if
    they are too many, the backward pass recomputes them.

    Args:
        x_BD: request vectors, divided by the temperature.
        item_MD: candidate vectors.
        shift_M: subtracted from the candidates' logits; infinite for excluded candidates.
        id_B: ids of the rows' positives.
        id_M: ids of the candidates.
    """
    device = x_BD.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x_BD.dtype
    shift_M = shift_M.detach().clamp(max=_EXCLUDED)
    with torch.autocast(device, enabled=False):
        return cast(Tensor, _LogSumOfOthers.apply(x_BD.to(dtype), item_MD.to(dtype), shift_M, id_B, id_M))


def catalog_softmax(x_BD: Tensor, item_ID: Tensor, target_B: Tensor) -> Tensor:
    """Returns [B] float32 losses -ln P(target) of a softmax over all items; computed like `logsumexp_negatives`.

    Args:
        x_BD: request vectors, divided by the temperature.
        item_ID: the vectors of the catalog.
        target_B: indices of the rows' items.
    """
    device = x_BD.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x_BD.dtype
    with torch.autocast(device, enabled=False):
        return cast(Tensor, _CatalogSoftmax.apply(x_BD.to(dtype), item_ID.to(dtype), target_B))


_CHUNK = {"cpu": 1 << 18, "cuda": 1 << 26}  # logits of a chunk
_MAX_STORED_PROBS = 1 << 28
_EXCLUDED = 1e30  # shift of excluded candidates; finite, so that a row without negatives has no NaN


class _LogSumOfOthers(torch.autograd.Function):
    """The autograd function of `logsumexp_negatives`."""

    @staticmethod
    def forward(ctx: Any, x_BD: Tensor, item_MD: Tensor, shift_M: Tensor, id_B: Tensor, id_M: Tensor) -> Tensor:
        sum_B = torch.empty(len(x_BD), device=x_BD.device)
        are_stored = len(x_BD) * len(item_MD) <= _MAX_STORED_PROBS
        p_BM = x_BD.new_empty(len(x_BD), len(item_MD)) if are_stored else None
        for rows in _chunks(x_BD, item_MD):
            p, sum_B[rows] = _softmax(x_BD[rows], item_MD, shift_M, id_B[rows], id_M)
            if p_BM is not None:
                p_BM[rows] = p
        ctx.save_for_backward(x_BD, item_MD, shift_M, id_B, id_M, p_BM)
        return sum_B.masked_fill(sum_B < -_EXCLUDED / 2, -torch.inf)  # not in place: torch 2.11 compiles that wrongly

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x_BD, item_MD, shift_M, id_B, id_M, p_BM = ctx.saved_tensors
        gradient_B1 = gradients[0].unsqueeze(1)
        scaled_BD = (gradient_B1 * x_BD).to(x_BD.dtype)
        if p_BM is not None:
            return (gradient_B1 * (p_BM @ item_MD)).to(x_BD.dtype), p_BM.T @ scaled_BD, None, None, None
        x_gradient_BD, item_gradient_MD = torch.empty_like(x_BD), torch.zeros_like(item_MD, dtype=torch.float32)
        for rows in _chunks(x_BD, item_MD):
            p = _softmax(x_BD[rows], item_MD, shift_M, id_B[rows], id_M)[0].to(x_BD.dtype)
            x_gradient_BD[rows] = gradient_B1[rows] * (p @ item_MD)
            item_gradient_MD += p.T @ scaled_BD[rows]
        return x_gradient_BD, item_gradient_MD.to(item_MD.dtype), None, None, None


def _softmax(x_BD: Tensor, item_MD: Tensor, shift_M: Tensor, id_B: Tensor, id_M: Tensor) -> tuple[Tensor, Tensor]:
    """Returns [B, M] probabilities over the negatives, and the [B] logarithms of their normalizers."""
    logits_BM = (x_BD @ item_MD.T).float().sub_(shift_M)
    logits_BM.masked_fill_(id_B.unsqueeze(1) == id_M, -_EXCLUDED)
    p_BM = logits_BM.softmax(dim=1)
    return p_BM, logits_BM.amax(dim=1) - p_BM.amax(dim=1).log()


class _CatalogSoftmax(torch.autograd.Function):
    """The autograd function of `catalog_softmax`; stores the gradient in the logits, P - 1 for the target."""

    @staticmethod
    def forward(ctx: Any, x_BD: Tensor, item_ID: Tensor, target_B: Tensor) -> Tensor:
        loss_B = torch.empty(len(x_BD), device=x_BD.device)
        are_stored = len(x_BD) * len(item_ID) <= _MAX_STORED_PROBS
        d_BI = x_BD.new_empty(len(x_BD), len(item_ID)) if are_stored else None
        for rows in _chunks(x_BD, item_ID):
            d, loss_B[rows] = _probs_minus_target(x_BD[rows], item_ID, target_B[rows])
            if d_BI is not None:
                d_BI[rows] = d
        ctx.save_for_backward(x_BD, item_ID, target_B, d_BI)
        return loss_B

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        x_BD, item_ID, target_B, d_BI = ctx.saved_tensors
        gradient_B1 = gradients[0].unsqueeze(1)
        scaled_BD = (gradient_B1 * x_BD).to(x_BD.dtype)
        if d_BI is not None:
            return (gradient_B1 * (d_BI @ item_ID)).to(x_BD.dtype), d_BI.T @ scaled_BD, None
        x_gradient_BD, item_gradient_ID = torch.empty_like(x_BD), torch.zeros_like(item_ID, dtype=torch.float32)
        for rows in _chunks(x_BD, item_ID):
            d = _probs_minus_target(x_BD[rows], item_ID, target_B[rows])[0]
            x_gradient_BD[rows] = (gradient_B1[rows] * (d @ item_ID)).to(x_BD.dtype)
            item_gradient_ID += d.T @ scaled_BD[rows]
        return x_gradient_BD, item_gradient_ID.to(item_ID.dtype), None


def _probs_minus_target(x_BD: Tensor, item_ID: Tensor, target_B: Tensor) -> tuple[Tensor, Tensor]:
    """Returns [B, I] probabilities, less 1 for the target, and the [B] losses."""
    p_BI, target_B1 = (x_BD @ item_ID.T).softmax(dim=1), target_B.unsqueeze(1)
    p_B1 = p_BI.gather(1, target_B1)
    loss_B = -p_B1.float().clamp(min=torch.finfo(torch.float32).tiny).log().squeeze(1)
    return p_BI.scatter_(1, target_B1, p_B1 - 1), loss_B


def _chunks(x_BD: Tensor, item_MD: Tensor) -> Iterator[slice]:
    """Yields slices of rows with at most `_CHUNK` logits, at least one row each."""
    size = max(1, _CHUNK[x_BD.device.type] // max(1, len(item_MD)))
    for start in range(0, len(x_BD), size):
        yield slice(start, start + size)
