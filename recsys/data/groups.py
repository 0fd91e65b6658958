"""Groups of rows: the finest sets that a split tells apart."""

from typing import Literal

from recsys.config import StrictModel

SplitName = Literal["train", "valid", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")
NO_LABEL = 255
NO_FOLD = -1
NO_DAY = -1


class Group(StrictModel):
    """Rows that every split treats alike."""

    split: SplitName
    fold: int
    """0 .. n_folds - 1 for training rows, -1 for others."""
    last_day: bool
    n_rows: int
    n_positive: int


def fit_groups_of(groups: tuple[Group, ...] | list[Group], split: str) -> list[int]:
    """The groups whose rows a split's model may see.

    Args:
        groups: all groups of the data set.
        split: `full`, `holdout` or `fold_K`.
    """
    train = [(index, group) for index, group in enumerate(groups) if group.split == "train"]
    if split == "holdout":
        return [index for index, group in train if not group.last_day]
    if split.startswith("fold_"):
        return [index for index, group in train if f"fold_{group.fold}" != split]
    return [index for index, _ in train]
