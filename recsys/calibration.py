"""From a model's logit to probabilities: the one place that knows how training shifted it.

A model trained with weight w on positives learns the logit of a world where positives are w times as frequent:
logit = logit(p) + ln w (Elkan, "The foundations of cost-sensitive learning", IJCAI 2001, theorem 2).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit


@dataclass(frozen=True)
class PriorShift:
    """How a model's logits relate to p and q.

    Args:
        trained_weight: the weight that positives had in training (1 without weighting).
        balancing_weight: w = N_neg / N_pos of the rows the model was fitted on.
    """

    trained_weight: float
    balancing_weight: float

    def natural_logit(self, logit: np.ndarray) -> np.ndarray:
        """[n] logits of p, the click probability at the data's own base rate."""
        return logit - np.log(self.trained_weight)

    def balanced_logit(self, logit: np.ndarray) -> np.ndarray:
        """[n] logits of q = p w / (p w + 1 - p), the class-balanced posterior at which WLL is lowest."""
        return self.natural_logit(logit) + np.log(self.balancing_weight)


def probability(logit: np.ndarray) -> np.ndarray:
    """[n] float64 1 / (1 + exp(-logit))."""
    return expit(logit.astype(np.float64))


def logit_of(probability: np.ndarray) -> np.ndarray:
    """[n] float64 ln(p / (1 - p)); infinite at 0 and 1."""
    with np.errstate(divide="ignore"):
        return np.log(probability) - np.log1p(-probability)
