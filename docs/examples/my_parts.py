"""A loss, a metric and a gate of one's own."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gatectr import Check, EvaluatedRows, Prior

N_TOP = 0.01
"""Share of the rows with the highest probabilities."""


class MyLoss(nn.Module):
    """The log loss plus the Brier score, (y - p)^2: both are least where the logits are those of p."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.pos_weight = 1.0  # both classes have the same weight: no correction of the logits is needed

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """[B] logits and [B] labels to [B] losses."""
        log_loss = functional.softplus(torch.where(label > 0.5, -logits, logits))
        return log_loss + (label - logits.sigmoid()).square()


def lift(label: np.ndarray, p: np.ndarray, weight: np.ndarray | None) -> float | None:
    """Click rate of the percent of the rows with the highest p, over that of all rows; None without a click."""
    if not label.any():
        return None
    weight = np.ones(len(label)) if weight is None else weight
    top = np.argsort(-p, kind="stable")[: max(1, round(N_TOP * len(p)))]
    return float(np.average(label[top], weights=weight[top]) / np.average(label, weights=weight))


def no_worse_at_the_top(runs: Mapping[str, EvaluatedRows]) -> Check:
    """The lift of the first run must be at least nine tenths of that of the second."""
    candidate, baseline = (lift(rows.label, rows.logits.p, rows.weight) for rows in runs.values())
    passed = candidate is not None and baseline is not None and candidate >= 0.9 * baseline
    needed = "missing" if baseline is None else f">= {0.9 * baseline:.2f}"
    return Check(what="lift of the top percent", value=candidate, threshold=needed, passed=passed, is_gain=False)
