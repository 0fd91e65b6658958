"""The items that can be retrieved: each distinct target item once, with the columns of a row that showed it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torchrec import KeyedJaggedTensor

from recsys.data.batch import Batch
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.errors import InputError


@dataclass(frozen=True)
class Catalog:
    """A items, by falling popularity."""

    names: pa.Array
    """[A] text: the values of the target item's column."""
    rows: np.ndarray
    """[A] int64: the first row that shows each item; its item-side columns speak for it."""
    n_impressions: np.ndarray
    """[A] int64 fitting rows of each item; 0 for one that only other rows show."""
    n_positives: np.ndarray
    """[A] int64 fitting rows that count as positives: clicks, or all."""
    recent: np.ndarray
    """[A] float64 fitting rows of each item, those of earlier days weighing less."""
    entry_of_item: np.ndarray
    """[items] int32: the place here of each of the data set's items; -1 for one that no row shows."""

    def __len__(self) -> int:
        return len(self.rows)

    def entries(self, split: Split, rows: np.ndarray) -> np.ndarray:
        """[n] places of the items of rows; -1 where a row names none."""
        items = split.store.items(rows)
        return np.where(items < 0, -1, self.entry_of_item[items])


def build_catalog(
    split: Split, rows: Rows, others: Sequence[Rows], is_clicked_only: bool, half_life_days: float | None = None
) -> Catalog:
    """The items of rows that are learned from, and of others: an item may be new there.

    Only the former say how popular an item is.

    Args:
        split: the rows' data set.
        rows: learned from.
        others: the rows that are judged.
        is_clicked_only: whether clicks alone count as positives.
        half_life_days: after so many days a row counts half for `recent`; None counts all alike.

    Raises:
        InputError: when no row names an item.
    """
    store = split.store
    n_items = len(store.item_names)
    first = np.full(n_items, np.iinfo(np.int64).max)
    n_impressions, n_positives = np.zeros(n_items, np.int64), np.zeros(n_items, np.int64)
    by_day: dict[int, np.ndarray] = {}
    for source in (rows, *others):
        for numbers in source.blocks():
            items = store.items(numbers)
            numbers, items = numbers[items >= 0], items[items >= 0]
            np.minimum.at(first, items, numbers)
            if source is rows:
                n_impressions += np.bincount(items, minlength=n_items)
                days = store.days(numbers)
                for day in np.unique(days).tolist():
                    counts = np.bincount(items[days == day], minlength=n_items)
                    by_day[day] = by_day.get(day, 0) + counts
                positives = items if not is_clicked_only else items[store.labels(numbers) == 1]
                n_positives += np.bincount(positives, minlength=n_items)
    found = np.flatnonzero(first < np.iinfo(np.int64).max)
    if len(found) == 0:
        raise InputError(f"{store.folder}: no row names a target item: fill schema.target_item's column")
    found = found[np.lexsort((found, -n_positives[found], -n_impressions[found]))]
    age = {day: (max(by_day) - day) / half_life_days if half_life_days else 0.0 for day in by_day}
    recent = sum((0.5 ** age[day] * counts for day, counts in by_day.items()), np.zeros(n_items))
    entry_of_item = np.full(n_items, -1, np.int32)
    entry_of_item[found] = np.arange(len(found))
    return Catalog(
        names=store.item_names.take(pa.array(found)),
        rows=first[found],
        n_impressions=n_impressions[found],
        n_positives=n_positives[found],
        recent=recent[found],
        entry_of_item=entry_of_item,
    )


def items_alone(split: Split, rows: np.ndarray, sequences: Sequence[str], item_sequences: Sequence[str]) -> Batch:
    """The items of rows as a batch whose other features are empty.

    Args:
        split: encodes.
        rows: [M] a row of each item.
        sequences: the sequence features that a batch has.
        item_sequences: those of them that are the item's.

    Returns:
        A batch of no rows: items alone, without labels.
    """
    n = len(rows)
    batch = split.batch(rows, item_sequences)
    of_item = set(split.schema.towers["item"])
    sparse = _keep(batch.sparse, list(split.schema.categorical), [k for k in batch.sparse.keys() if k in of_item], n)  # noqa: SIM118
    has_weights = any(s.name in sequences for s in split.schema.column_sequences)
    return Batch(
        dense=batch.dense,
        sparse=sparse,
        sequences=_keep(batch.sequences, list(sequences), list(item_sequences), n, has_weights),
        label=torch.full((n,), torch.nan),
        row=batch.row,
        is_real=batch.is_real,
        n_rows=0,
    )


def _keep(
    jagged: KeyedJaggedTensor, keys: list[str], kept: list[str], n_rows: int, has_weights: bool = False
) -> KeyedJaggedTensor:
    """The features `keys`, of which all but `kept` are empty."""
    none = torch.zeros(n_rows, dtype=torch.int32)
    parts = {key: jagged[key] for key in kept}
    values = [part.values() for part in parts.values()]
    weights = None
    if has_weights:
        found = [part.weights_or_none() for part in parts.values()]
        weights = [torch.ones(len(v)) if w is None else w for v, w in zip(values, found, strict=True)]
    return KeyedJaggedTensor(
        keys=keys,
        values=torch.cat(values) if values else torch.zeros(0, dtype=torch.int32),
        lengths=torch.cat([parts[key].lengths() if key in parts else none for key in keys] or [none[:0]]),
        weights=None if weights is None else torch.cat([*weights, torch.zeros(0)]),
        stride=n_rows,
    )
