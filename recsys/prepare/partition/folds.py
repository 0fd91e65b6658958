"""Assigns training rows to folds and to the tuning part, cluster by cluster."""

import numpy as np

from recsys.data.config import PrepareConfig
from recsys.prepare.partition.clusters import Clusters
from recsys.system.hashing import as_fraction, mix

_FOLD_SEED, _TUNING_SEED = 0, 4  # random streams of a user seed


def assign_folds(clusters: Clusters, label: np.ndarray, config: PrepareConfig) -> np.ndarray:
    """Assigns [n] int16 folds by the hashes of clusters: see `PrepareConfig.stratify`.

    If the hashes of clusters of several rows leave a fold empty, the clusters are assigned to the folds in turn.

    Args:
        clusters: of [n] rows.
        label: [n] uint8.
        config: settings of folds.
    """
    mixed, n_folds = mix(mix(clusters.hashes, _FOLD_SEED), config.seed), config.n_folds
    if config.stratify == "exact":
        has_click = clusters.has_any(label == 1)
        order = np.lexsort((mixed, has_click))
        starts = np.searchsorted(has_click[order], has_click[order])
        return clusters.spread(_in_turn(order, starts, n_folds))
    folds = (as_fraction(mixed) * n_folds).astype(np.int16)
    if clusters.of_row is not None and len(np.unique(folds)) < n_folds:
        folds = _in_turn(np.argsort(mixed, kind="stable"), np.zeros(len(mixed), np.int64), n_folds)
    return clusters.spread(folds)


def _in_turn(order: np.ndarray, starts: np.ndarray, n_folds: int) -> np.ndarray:
    """Deals clusters to the folds in turn, given their order and the [n] position at which the turns begin anew."""
    folds = np.empty(len(order), np.int16)
    folds[order] = (np.arange(len(order)) - starts) % n_folds
    return folds


def select_tuning(clusters: Clusters, window: np.ndarray, config: PrepareConfig) -> np.ndarray:
    """Returns [n] bool: whether rows are of the tuning part.

    Only clusters with a row before the first forward window are selected, then with all of their rows: later rows of a
    user whose earlier rows every fold is fitted to must not be evaluated as those of an unseen user.

    Args:
        clusters: of [n] rows.
        window: [n] uint8 forward windows.
        config: settings of folds.
    """
    share = config.folds.tuning_share
    if not share:
        return np.zeros(len(window), bool)
    draw = as_fraction(mix(mix(clusters.hashes, _TUNING_SEED), config.seed))
    return clusters.spread((draw < share) & clusters.has_any(window == 0))


def n_exact_copies(content: np.ndarray, label: np.ndarray) -> int:
    """Returns how many rows equal an earlier one in content and label.

    Args:
        content: [n] uint64 hashes of features, days and users.
        label: [n] uint8.
    """
    return len(content) - len(np.unique(mix(content, 0) + label.astype(np.uint64)))
