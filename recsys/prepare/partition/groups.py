"""Assigns rows to groups: the finest sets that splits distinguish."""

import numpy as np

from recsys.data.config import PrepareConfig
from recsys.data.groups import PARTITIONS, Group
from recsys.errors import InputError

MAX_GROUPS = 255
"""A row's group is stored as uint8."""


def group_rows(
    label: np.ndarray,
    split: np.ndarray,
    fold: np.ndarray,
    window: np.ndarray,
    is_tuning: np.ndarray,
    config: PrepareConfig,
    weight: np.ndarray | None = None,
    holdout: int | None = None,
) -> tuple[list[Group], np.ndarray]:
    """Returns the groups, and the [n] uint8 positions of the rows' groups among them.

    Args:
        label: [n] uint8.
        split: [n] uint8 positions among PARTITIONS.
        fold: [n] int16.
        window: [n] uint8 forward windows; 0 outside training rows.
        is_tuning: [n] bool.
        config: settings of folds.
        weight: [n] float32 weights of the rows, if they have any.
        holdout: the window that is the last day; None if windows are no days.

    Raises:
        InputError: for more than 255 groups.
    """
    n_folds, n_windows = config.n_folds, int(window.max(initial=0))
    key_n = (split.astype(np.int32) * (n_folds + 1) + fold + 1) * (n_windows + 1) + window
    keys, group_n = np.unique(key_n * 2 + is_tuning, return_inverse=True)
    if len(keys) > MAX_GROUPS:
        windows = f" and prepare.folds.n_windows={config.folds.n_windows}" if n_windows else ""
        tuning = " and prepare.folds.tuning_share" if is_tuning.any() else ""
        raise InputError(
            f"prepare.n_folds={n_folds}{windows}{tuning} make {len(keys)} groups of rows, more than {MAX_GROUPS}: "
            "lower the number of folds" + (" or windows" if windows else "")
        )
    n_rows = np.bincount(group_n, minlength=len(keys))
    is_positive = label == 1
    n_positive = np.bincount(group_n[is_positive], minlength=len(keys))
    weights: dict[str, np.ndarray] = {}
    if weight is not None:
        for name, rows in (("positive_weight", is_positive), ("negative_weight", label == 0)):
            weights[name] = np.bincount(group_n[rows], weight[rows], len(keys))
    groups = []
    for index, key in enumerate(keys.tolist()):
        rest, in_window = divmod(key // 2, n_windows + 1)
        groups.append(
            Group(
                partition=PARTITIONS[rest // (n_folds + 1)],
                fold=rest % (n_folds + 1) - 1,
                is_holdout=in_window > 0 and in_window == holdout,
                window=in_window,
                is_tuning=bool(key % 2),
                n_rows=int(n_rows[index]),
                n_positive=int(n_positive[index]),
                **{name: float(sums[index]) for name, sums in weights.items()},
            )
        )
    return groups, group_n.astype(np.uint8)


def order_by_group(group: np.ndarray, n_groups: int) -> np.ndarray:
    """Returns [n] row numbers, sorted by group and ascending within each group: the fold indices."""
    dtype = np.uint32 if len(group) < 2**32 else np.uint64
    return np.concatenate([np.flatnonzero(group == index).astype(dtype) for index in range(n_groups)])
