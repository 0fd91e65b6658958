"""Ensemble selection: the number of times that each member is in an ensemble, chosen by a metric.

Source: Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble selection from libraries of models", ICML 2004: forward
selection with replacement, started with the best members, in bags of the members.

Shapes: N rows of a data set, M models of an ensemble (its members).
"""

from collections.abc import Callable

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from recsys.evaluation.logits import log_pos_weight_of
from recsys.evaluation.metrics import MetricName, log_loss_terms, toss_score, weighted_log_loss

_N_BAGS = 5
_N_STARTED_WITH = 2
_N_STEPS = 15
_N_ROWS = 50_000
"""More rows change the choice little, and take long to rank."""


def select_greedily(
    logit_NM: np.ndarray, label: np.ndarray, metric: MetricName, weight: np.ndarray | None = None, seed: int = 0
) -> tuple[float, ...]:
    """Returns [M] weights that sum to one: the share of each member in the ensembles of all bags.

    A bag has half of the members, at least two. Its ensemble, a mean of logits, begins with the two best of them; the
    member that improves it most is added, again and again, also if it is already there, until none improves it.

    Args:
        logit_NM: [N, M] natural logits of the members.
        label: [N] 0 / 1.
        metric: what the ensemble is chosen by; GAUC, ECE and NE are replaced by the metric that they refine.
        weight: [N] weights of the rows; None if they have none.
        seed: of the bags, and of the sample of at most 50,000 rows of each class.
    """
    rng, n_members = np.random.default_rng(seed), logit_NM.shape[1]
    log_pos_weight, kept = log_pos_weight_of(label, weight), _sample(label, rng)
    if len(kept) < len(label):  # a kept row stands for those of its class that were left out
        n_of_each = np.bincount(label == 1) / np.bincount(label[kept] == 1)
        weight = n_of_each[(label == 1).astype(np.int64)] * (1.0 if weight is None else weight)
    label, logit_NM, weight = label[kept], logit_NM[kept], None if weight is None else weight[kept]
    value_of = _objective(label, metric, weight, log_pos_weight)
    alone = [value_of(column) for column in logit_NM.T]
    counts = np.zeros(n_members)
    for _ in range(_N_BAGS):
        bag = rng.permutation(n_members)[: max(2, -(-n_members // 2))]
        chosen = np.zeros(n_members)
        chosen[sorted(bag, key=lambda member: -alone[member])[:_N_STARTED_WITH]] = 1
        counts += _grown(chosen, bag, logit_NM, value_of)
    return tuple((counts / counts.sum()).tolist())


def _grown(
    chosen: np.ndarray, bag: np.ndarray, logit_NM: np.ndarray, value_of: Callable[[np.ndarray], float]
) -> np.ndarray:
    """[M] shares of the members after adding those of a bag one by one."""
    total_N, best = logit_NM @ chosen, value_of(logit_NM @ chosen / chosen.sum())
    for _ in range(_N_STEPS):
        values = [value_of((total_N + logit_NM[:, member]) / (chosen.sum() + 1)) for member in bag]
        if max(values) <= best:
            break
        best, added = max(values), bag[int(np.argmax(values))]
        chosen[added] += 1
        total_N = total_N + logit_NM[:, added]
    return chosen / chosen.sum()


def _sample(label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions of all rows of a class, or of a sample of them."""
    classes = (np.flatnonzero(label == value) for value in (0, 1))
    return np.sort(np.concatenate([rng.permutation(rows)[:_N_ROWS] for rows in classes]))


def _objective(
    label: np.ndarray, metric: MetricName, weight: np.ndarray | None, log_pos_weight: float
) -> Callable[[np.ndarray], float]:
    """The metric of [n] natural logits; higher is better."""

    def ap(logit: np.ndarray) -> float:
        return float(average_precision_score(label, logit, sample_weight=weight))

    def negative_wll(logit: np.ndarray) -> float:
        return -weighted_log_loss(label, logit + log_pos_weight, weight)

    match metric:
        case "ap" | "pr_auc":
            return ap
        case "roc_auc" | "gauc":
            return lambda logit: float(roc_auc_score(label, logit, sample_weight=weight))
        case "toss_score":
            return lambda logit: toss_score(ap(logit), -negative_wll(logit))
        case "wll":
            return negative_wll
        case "logloss" | "ne" | "ece":
            return lambda logit: -float(np.average(log_loss_terms(label, logit), weights=weight))
