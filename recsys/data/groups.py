"""Groups of rows: the finest sets that splits distinguish (partition, fold, forward window, tuning part).

The statistics of a split are sums over groups, so no fold needs its own pass over the data.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import ConfigDict, Field

from recsys.config import StrictModel

Partition = Literal["train", "valid", "test"]
PARTITIONS: tuple[Partition, ...] = ("train", "valid", "test")
NO_LABEL = 255
NO_FOLD = -1
NO_DAY = -1
NO_USER = -1

FULL, HOLDOUT, TUNING = "full", "holdout", "tuning"
"""`full` is fitted to all training rows, `holdout` to all days except the last, `tuning` to the rows before the first
forward window that are not in the tuning part. Other splits are named fold_K and forward_K."""
FOLD, FORWARD = "fold_", "forward_"
"""Prefixes of the names of splits."""


class Group(StrictModel):
    """Rows with the same partition, fold, forward window and tuning flag."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    partition: Partition = Field(alias="split")
    fold: int
    """0 .. n_folds - 1 for training rows, -1 for others."""
    is_holdout: bool = Field(alias="last_day")
    """Whether the rows are from the last day."""
    window: int = 0
    """The forward window of training rows, from 1; 0 for rows before the first window, and for other partitions."""
    is_tuning: bool = False
    """Whether the rows are of users (or rows) of the tuning part, which no fold evaluates."""
    n_rows: int
    n_positive: int
    positive_weight: float | None = Field(default=None, exclude_if=lambda value: value is None)
    """Sum of the weights of the positives; None if rows have no weights."""
    negative_weight: float | None = Field(default=None, exclude_if=lambda value: value is None)


def split_names(groups: Sequence[Group], n_folds: int) -> list[str]:
    """Returns the names of the splits that the groups allow: folds only if every fold has rows to evaluate on."""
    train = [group for group in groups if group.partition == "train"]
    folds = [f"{FOLD}{fold}" for fold in range(n_folds)]
    if not all(fit_groups_of(groups, fold) and evaluation_groups_of(groups, fold) for fold in folds):
        folds = []  # too few rows for all folds
    holdout = [HOLDOUT] if any(group.is_holdout for group in train) else []
    windows = sorted({group.window for group in train if group.window})
    tuning = [TUNING] if evaluation_groups_of(groups, TUNING) and fit_groups_of(groups, TUNING) else []
    return [FULL, *folds, *holdout, *(f"{FORWARD}{window}" for window in windows), *tuning]


def fit_groups_of(groups: Sequence[Group], split: str) -> list[int]:
    """Returns the indices of the groups that a split's model is fitted to.

    Args:
        groups: all groups of the data set.
        split: `full`, `holdout`, `tuning`, `fold_K` or `forward_K`.
    """

    def is_fitted(group: Group) -> bool:
        if split == HOLDOUT:
            return not group.is_holdout
        if split == TUNING:
            return group.window == 0 and not group.is_tuning
        if split.startswith(FORWARD):
            return group.window < int(split.removeprefix(FORWARD))
        return split == FULL or f"{FOLD}{group.fold}" != split or group.is_tuning

    return [index for index, group in enumerate(groups) if group.partition == "train" and is_fitted(group)]


def evaluation_groups_of(groups: Sequence[Group], split: str) -> list[int]:
    """Returns the indices of the training groups that a split is evaluated on; none for `full`."""

    def is_evaluated(group: Group) -> bool:
        if split == HOLDOUT:
            return group.is_holdout
        if split == TUNING:
            return group.window == 0 and group.is_tuning
        if split.startswith(FORWARD):
            return group.window == int(split.removeprefix(FORWARD))
        return f"{FOLD}{group.fold}" == split and not group.is_tuning

    return [index for index, group in enumerate(groups) if group.partition == "train" and is_evaluated(group)]
