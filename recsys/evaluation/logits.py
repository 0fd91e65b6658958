"""From a model's logit to probabilities: the one place that knows how the training loss shifted it.

A model trained with weight w on positives learns the logit of a world where positives are w times as frequent:
logit = logit(p) + ln w (Elkan, "The foundations of cost-sensitive learning", IJCAI 2001, theorem 2). The focal loss is
not proper, so that its outputs are not probabilities even then; a closed form turns them into the class posterior
(Charoenphakdee et al., "On focal loss for class-posterior probability estimation", CVPR 2021).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit


@dataclass(frozen=True)
class Logits:
    """Predictions of [n] rows, at both scales."""

    natural: np.ndarray
    """[n] float64 logits of p, the click probability at the data's own base rate."""
    log_pos_weight: np.ndarray
    """[n] float64 ln w, where w = N_neg / N_pos of the rows that each row's model was fitted to."""

    @classmethod
    def of_one_fit(cls, natural: np.ndarray, log_pos_weight: float) -> "Logits":
        """[n] natural logits of models that were fitted to the same rows."""
        return cls(natural, np.full(len(natural), log_pos_weight))

    @classmethod
    def join(cls, parts: Sequence["Logits"]) -> "Logits":
        """Parts end to end; of no part, no rows."""
        empty = np.zeros(0)
        natural = np.concatenate([empty, *(part.natural for part in parts)])
        return cls(natural, np.concatenate([empty, *(part.log_pos_weight for part in parts)]))

    def __len__(self) -> int:
        return len(self.natural)

    @property
    def balanced(self) -> np.ndarray:
        """[n] logits of q = p w / (p w + 1 - p), the class-balanced posterior at which WLL is lowest."""
        return self.natural + self.log_pos_weight

    @property
    def p(self) -> np.ndarray:
        """[n] probabilities at the data's own base rate."""
        return probability(self.natural)

    @property
    def q(self) -> np.ndarray:
        """[n] class-balanced probabilities."""
        return probability(self.balanced)

    def take(self, rows: np.ndarray) -> "Logits":
        """Some of the rows, by [m] positions or by an [n] mask."""
        return Logits(self.natural[rows], self.log_pos_weight[rows])

    def with_natural(self, natural: np.ndarray) -> "Logits":
        """Other [n] natural logits of the same rows."""
        return Logits(natural, self.log_pos_weight)


@dataclass(frozen=True)
class LogitLink:
    """How a model's logits relate to p and q.

    Args:
        trained_weight: the weight that positives had in training (1 without weighting).
        balancing_weight: w = N_neg / N_pos of the rows the model was fitted on.
        focal_gamma: the focusing parameter of the focal loss; 0 for the log loss.
    """

    trained_weight: float
    balancing_weight: float
    focal_gamma: float = 0.0

    @property
    def log_pos_weight(self) -> float:
        """ln of the balancing weight: what takes a natural logit to the balanced one."""
        return float(np.log(self.balancing_weight))

    def logits(self, model_logit: np.ndarray) -> Logits:
        """[n] logits as a model gives them, at both scales."""
        natural = focal_posterior_logit(model_logit, self.focal_gamma) - np.log(self.trained_weight)
        return Logits.of_one_fit(natural, self.log_pos_weight)


def focal_posterior_logit(logit: np.ndarray, gamma: float) -> np.ndarray:
    """[n] logits of the posterior eta for which sigmoid(logit) = v minimises the expected focal loss.

    eta = h(v) / (h(v) + h(1 - v)) with h(v) = v / phi(v) and phi(v) = (1 - v)^gamma - gamma (1 - v)^(gamma - 1) v ln v.
    Its logit is z + ln phi(1 - v) - ln phi(v), computed from ln v and ln (1 - v) so that no tail is lost. It rises with
    z: ranks stay as they are.
    """
    if gamma == 0:
        return logit
    z = logit.astype(np.float64)
    return z + _log_phi(-z, gamma) - _log_phi(z, gamma)


def _log_phi(z: np.ndarray, gamma: float) -> np.ndarray:
    """ln phi(v) at v = sigmoid(z)."""
    log_v, log_rest = -np.logaddexp(0.0, -z), -np.logaddexp(0.0, z)
    # phi = (1 - v)^gamma (1 - gamma exp(z) ln v): v / (1 - v) = exp(z), and -exp(z) ln v tends to 1 as z grows
    odds_times_log = np.where(z > 30, -1.0, np.exp(np.minimum(z, 30.0)) * log_v)
    return gamma * log_rest + np.log1p(-gamma * odds_times_log)


def probability(logit: np.ndarray) -> np.ndarray:
    """[n] float64 1 / (1 + exp(-logit))."""
    return expit(logit.astype(np.float64))


def logit_of(probability: np.ndarray) -> np.ndarray:
    """[n] float64 ln(p / (1 - p)); infinite at 0 and 1."""
    with np.errstate(divide="ignore"):
        return np.log(probability) - np.log1p(-probability)


def log_pos_weight_of(label: np.ndarray) -> float:
    """ln (N_neg / N_pos) of [n] labels, which takes a natural logit to the class-balanced one."""
    n_positive = float(label.sum())
    return float(np.log((len(label) - n_positive) / n_positive))
