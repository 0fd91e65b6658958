"""Stacking: combines the predictions of several models into one probability.

The inputs are the logits of the members' natural probabilities p, independent of their training losses, so
gradient-boosted trees and transformers can be combined. `recsys.evaluation.stack_fitting` fits stacks.

Shapes: N rows of a data set, M models of an ensemble (its members).
"""

from typing import Literal, get_args

import numpy as np
from scipy.special import expit

from recsys.config import StrictModel
from recsys.evaluation.logits import logit_of

StackMethod = Literal["logit_mean", "rank_mean", "weights", "greedy", "logistic"]
STACK_METHODS: tuple[StackMethod, ...] = get_args(StackMethod)


class Stack(StrictModel):
    """The parameters of a fitted ensemble: bias + sum_m weight_m x_m.

    x_m is the natural logit of member m; rank_mean has a single x, the logit of the members' mean rank.
    """

    method: StackMethod
    members: tuple[str, ...]
    is_on_calibrated: bool = False
    """Whether x_m are calibrated; ensembles of earlier versions read uncalibrated logits."""
    weights: tuple[float, ...]
    bias: float = 0.0
    rank_logits: tuple[float, ...] = ()
    """For rank_mean: logits of the ranks at which `quantiles` are computed."""
    quantiles: tuple[tuple[float, ...], ...] = ()
    """For rank_mean: each member's natural logits at those ranks."""

    def natural_logit(self, logit_NM: np.ndarray) -> np.ndarray:
        """Maps [N, M] natural logits, one column per member, to [N] natural logits of the ensemble."""
        inputs = self._mean_rank_logit(logit_NM)[:, None] if self.method == "rank_mean" else logit_NM
        # term by term: in a matrix product the rounding of a row may depend on the other rows
        return sum((w * x for w, x in zip(self.weights, inputs.T, strict=True)), start=np.full(len(inputs), self.bias))

    def _mean_rank_logit(self, logit_NM: np.ndarray) -> np.ndarray:
        ranks = [
            expit(np.interp(column, quantiles, self.rank_logits))
            for column, quantiles in zip(logit_NM.T, self.quantiles, strict=True)
        ]
        return logit_of(np.mean(ranks, axis=0))
