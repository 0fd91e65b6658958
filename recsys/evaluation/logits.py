"""Converts model logits to probabilities; the only module that corrects the shift caused by the training loss.

A model trained with weight w on positives learns the logit at w times the odds of a positive:
logit = logit(p) + ln w (Elkan, "The foundations of cost-sensitive learning", IJCAI 2001, theorem 2). The focal loss is
not proper: its outputs are not probabilities even after this correction. A closed form maps them to the class posterior
(Charoenphakdee et al., "On focal loss for class-posterior probability estimation", CVPR 2021).

If only a share r of the negatives came into the log, its odds are those of the full log divided by r, so
logit(p) = logit in the log + ln r (King and Zeng, "Logistic regression in rare events data", Political Analysis 2001,
section 4.1). p is always that of the full log; q is the same in both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit


@dataclass(frozen=True)
class Logits:
    """Logits of [n] rows, at the natural and at the balanced scale."""

    natural: np.ndarray
    """[n] float64 logits of p, the click probability at the base rate of the data, or of the full log."""
    log_pos_weight: np.ndarray
    """[n] float64 ln w, with w = N_neg / N_pos of the rows that the row's model was fitted to, or of the full log."""
    log_sampling_rate: float = 0.0
    """ln of the share of negatives that came into the log."""

    @classmethod
    def of_one_fit(cls, natural: np.ndarray, log_pos_weight: float, log_sampling_rate: float = 0.0) -> "Logits":
        """Wraps [n] natural logits of models that were fitted to the same rows."""
        return cls(natural, np.full(len(natural), log_pos_weight), log_sampling_rate)

    @classmethod
    def join(cls, chunks: Sequence["Logits"]) -> "Logits":
        """Concatenates logits; an empty sequence gives no rows."""
        empty = np.zeros(0)
        natural = np.concatenate([empty, *(chunk.natural for chunk in chunks)])
        log_pos_weight = np.concatenate([empty, *(chunk.log_pos_weight for chunk in chunks)])
        rates = {chunk.log_sampling_rate for chunk in chunks} or {0.0}
        assert len(rates) == 1, "one data set has one sampling rate"
        return cls(natural, log_pos_weight, rates.pop())

    def __len__(self) -> int:
        return len(self.natural)

    @property
    def balanced(self) -> np.ndarray:
        """[n] logits of q = p w / (p w + 1 - p), the class-balanced posterior, which minimizes WLL."""
        return self.natural + self.log_pos_weight

    @property
    def p(self) -> np.ndarray:
        """[n] probabilities at the base rate of the data."""
        return probability(self.natural)

    @property
    def q(self) -> np.ndarray:
        """[n] class-balanced probabilities."""
        return probability(self.balanced)

    def take(self, rows: np.ndarray) -> "Logits":
        """Selects rows by [m] positions or by an [n] mask."""
        return replace(self, natural=self.natural[rows], log_pos_weight=self.log_pos_weight[rows])

    def with_natural(self, natural: np.ndarray) -> "Logits":
        """Replaces the [n] natural logits."""
        return replace(self, natural=natural)

    def weight_in_full_log(self, label: np.ndarray, weight: np.ndarray | None) -> np.ndarray | None:
        """[n] weights with which the rows stand for the full log: a negative for 1 / r; None if all weights are one.

        Args:
            label: [n] 0 / 1.
            weight: [n] weights of the rows; None if they have none.
        """
        if self.log_sampling_rate == 0:
            return weight
        full = np.where(label == 1, 1.0, np.exp(-self.log_sampling_rate))
        return full if weight is None else full * weight


@dataclass(frozen=True)
class LogitLink:
    """Maps a model's logits to those of p and q.

    Args:
        trained_weight: the weight of positives in training (1 without weighting).
        balancing_weight: w = N_neg / N_pos of the rows the model was fitted to.
        focal_gamma: the focusing parameter of the focal loss; 0 for the log loss.
        sampling_rate: the share of negatives that came into the log.
    """

    trained_weight: float
    balancing_weight: float
    focal_gamma: float = 0.0
    sampling_rate: float = 1.0

    @classmethod
    def of_natural(cls, log_pos_weight: float, log_sampling_rate: float = 0.0) -> "LogitLink":
        """The link of a model whose logits are natural already."""
        rate = float(np.exp(log_sampling_rate))
        return cls(trained_weight=rate, balancing_weight=float(np.exp(log_pos_weight)) * rate, sampling_rate=rate)

    @property
    def log_sampling_rate(self) -> float:
        """ln of the sampling rate."""
        return float(np.log(self.sampling_rate))

    @property
    def log_pos_weight(self) -> float:
        """ln of N_neg / N_pos in the full log: balanced logit - natural logit."""
        return float(np.log(self.balancing_weight)) - self.log_sampling_rate

    def logits(self, model_logit: np.ndarray) -> Logits:
        """Converts [n] logits of the model to natural and balanced logits."""
        natural = focal_posterior_logit(model_logit, self.focal_gamma) - np.log(
            self.trained_weight / self.sampling_rate
        )
        return Logits.of_one_fit(natural, self.log_pos_weight, self.log_sampling_rate)


def focal_posterior_logit(logit: np.ndarray, gamma: float) -> np.ndarray:
    """[n] logits of the posterior eta for which sigmoid(logit) = v minimizes the expected focal loss.

    eta = h(v) / (h(v) + h(1 - v)) with h(v) = v / phi(v) and phi(v) = (1 - v)^gamma - gamma (1 - v)^(gamma - 1) v ln v.
    Its logit is z + ln phi(1 - v) - ln phi(v), computed from ln v and ln (1 - v) to stay accurate in the tails. It
    increases with z: ranks do not change.
    """
    if gamma == 0:
        return logit
    z = logit.astype(np.float64)
    return z + _log_phi(-z, gamma) - _log_phi(z, gamma)


def _log_phi(z: np.ndarray, gamma: float) -> np.ndarray:
    """ln phi(v) at v = sigmoid(z)."""
    log_v, log_complement = -np.logaddexp(0.0, -z), -np.logaddexp(0.0, z)
    # phi = (1 - v)^gamma (1 - gamma exp(z) ln v): v / (1 - v) = exp(z), and -exp(z) ln v tends to 1 as z grows
    odds_times_log = np.where(z > 30, -1.0, np.exp(np.minimum(z, 30.0)) * log_v)
    return gamma * log_complement + np.log1p(-gamma * odds_times_log)


def probability(logit: np.ndarray) -> np.ndarray:
    """[n] float64 1 / (1 + exp(-logit))."""
    return expit(logit.astype(np.float64))


def logit_of(probability: np.ndarray) -> np.ndarray:
    """[n] float64 ln(p / (1 - p)); infinite at 0 and 1."""
    with np.errstate(divide="ignore"):
        return np.log(probability) - np.log1p(-probability)


def log_pos_weight_of(label: np.ndarray, weight: np.ndarray | None = None) -> float:
    """ln (N_neg / N_pos) of [n] labels, of sums of weights if there are any: class-balanced logit - natural logit."""
    if weight is not None:
        return float(np.log(weight[label == 0].sum(dtype=np.float64) / weight[label == 1].sum(dtype=np.float64)))
    n_positive = float(label.sum())
    return float(np.log((len(label) - n_positive) / n_positive))
