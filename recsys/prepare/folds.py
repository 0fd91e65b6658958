"""Assigns training rows to folds and all rows to groups.

A group is a finest set of rows that splits distinguish: (train / valid / test, fold, last day or not). The statistics
of a split are sums over groups, so that no fold needs its own pass.
"""

import numpy as np

from recsys.data.config import PrepareConfig
from recsys.data.groups import PARTITIONS, Group
from recsys.errors import InputError
from recsys.system.hashing import as_fraction, mix

_FOLD_SEED = 0  # a random stream of a user seed


def assign_folds(hashes: np.ndarray, label: np.ndarray, config: PrepareConfig) -> np.ndarray:
    """Assigns [n] int16 folds by the hashes of row ids: see `PrepareConfig.stratify`."""
    mixed = mix(mix(hashes, _FOLD_SEED), config.seed)
    if config.stratify == "hash":
        return (as_fraction(mixed) * config.n_folds).astype(np.int16)
    folds = np.empty(len(hashes), np.int16)
    order = np.lexsort((mixed, label))
    starts = np.searchsorted(label[order], label[order])
    folds[order] = (np.arange(len(order)) - starts) % config.n_folds
    return folds


def n_exact_copies(content: np.ndarray, label: np.ndarray) -> int:
    """Returns how many rows equal an earlier one in content and label.

    Args:
        content: [n] uint64 hashes of features and days.
        label: [n] uint8.
    """
    return len(content) - len(np.unique(mix(content, 0) + label.astype(np.uint64)))


def folds_of_first_copies(content: np.ndarray, fold: np.ndarray, n_folds: int) -> np.ndarray:
    """Returns [n] int16 folds where rows of equal content have the fold of the first of them.

    If that leaves a fold without rows, the distinct contents are dealt out to the folds in turn.

    The label is no part of the content: a fold with all the positive copies of a row, and none of its negative ones,
    would be the opposite of what the other folds teach.

    Args:
        content: [n] uint64 hashes of features and days.
        fold: [n] int16 folds of rows that are no copies.
        n_folds: number of folds.
    """
    _, first_rows, inverse = np.unique(content, return_index=True, return_inverse=True)
    folds = fold[first_rows]
    if len(np.unique(folds)) < n_folds:
        folds = (np.arange(len(folds)) % n_folds).astype(np.int16)  # in the order of their hashes
    return folds[inverse]


def group_rows(
    label: np.ndarray,
    split: np.ndarray,
    fold: np.ndarray,
    is_holdout: np.ndarray,
    n_folds: int,
    weight: np.ndarray | None = None,
) -> tuple[list[Group], np.ndarray]:
    """Returns the groups, and the [n] uint8 positions of the rows' groups among them.

    Args:
        label: [n] uint8.
        split: [n] uint8 positions among PARTITIONS.
        fold: [n] int16.
        is_holdout: [n] bool.
        n_folds: number of folds.
        weight: [n] float32 weights of the rows, if they have any.

    Raises:
        InputError: for more than 255 groups.
    """
    key_n = (split.astype(np.int32) * (n_folds + 1) + fold + 1) * 2 + is_holdout
    keys, group_n = np.unique(key_n, return_inverse=True)
    if len(keys) > 255:
        raise InputError(f"prepare.n_folds={n_folds} makes {len(keys)} groups of rows, more than 255: lower it")
    n_rows = np.bincount(group_n, minlength=len(keys))
    is_positive = label == 1
    n_positive = np.bincount(group_n[is_positive], minlength=len(keys))
    weights: dict[str, np.ndarray] = {}
    if weight is not None:
        for name, rows in (("positive_weight", is_positive), ("negative_weight", label == 0)):
            weights[name] = np.bincount(group_n[rows], weight[rows], len(keys))
    groups = [
        Group(
            partition=PARTITIONS[int(key) // 2 // (n_folds + 1)],
            fold=int(key) // 2 % (n_folds + 1) - 1,
            is_holdout=bool(key % 2),
            n_rows=int(n_rows[index]),
            n_positive=int(n_positive[index]),
            **{name: float(sums[index]) for name, sums in weights.items()},
        )
        for index, key in enumerate(keys)
    ]
    return groups, group_n.astype(np.uint8)
