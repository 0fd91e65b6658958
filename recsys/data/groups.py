"""Groups of rows: the finest sets that splits distinguish (partition, fold, holdout or not).

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


class Group(StrictModel):
    """Rows with the same partition, fold and holdout flag."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    partition: Partition = Field(alias="split")
    fold: int
    """0 .. n_folds - 1 for training rows, -1 for others."""
    is_holdout: bool = Field(alias="last_day")
    """Whether the rows are from the last day."""
    n_rows: int
    n_positive: int
    positive_weight: float | None = Field(default=None, exclude_if=lambda value: value is None)
    """Sum of the weights of the positives; None if rows have no weights."""
    negative_weight: float | None = Field(default=None, exclude_if=lambda value: value is None)


def fit_groups_of(groups: Sequence[Group], split: str) -> list[int]:
    """Returns the indices of the groups that a split's model is fitted to.

    Args:
        groups: all groups of the data set.
        split: `full`, `holdout` or `fold_K`.
    """
    train = [(index, group) for index, group in enumerate(groups) if group.partition == "train"]
    if split == "holdout":
        return [index for index, group in train if not group.is_holdout]
    if split.startswith("fold_"):
        return [index for index, group in train if f"fold_{group.fold}" != split]
    return [index for index, _ in train]
