"""The catalog: each distinct target item, with a row that provides its item columns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torchrec import KeyedJaggedTensor

from recsys.data.batch import Batch
from recsys.data.groups import NO_DAY
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.data.store import RowStore
from recsys.errors import InputError

_N_PERIODS = 64
"""Parts of the time of rows that have a time and no day."""


@dataclass(frozen=True)
class Catalog:
    """I items, sorted by falling popularity. A catalog index is a position in this order."""

    names: pa.Array
    """[I] text: the values of the target item's column."""
    rows: np.ndarray
    """[I] int64: the first row of each item, which provides its item columns."""
    n_impressions: np.ndarray
    """[I] int64 fitting rows of each item; 0 for an item of evaluation rows only."""
    n_positives: np.ndarray
    """[I] int64 positives of each item among the fitting rows: clicks, or all rows."""
    recent: np.ndarray
    """[I] float64 fitting rows of each item, weighted less the earlier their day."""
    recent_positives: np.ndarray
    """[I] float64 positives of each item among the fitting rows, weighted likewise."""
    trending: np.ndarray | None
    """[I] float64 positives, with an eighth of the days, or of the time of a split by time, as the half-life if none is
    set; None without either."""
    catalog_index_of_item: np.ndarray
    """[items] int32: the catalog index of each item of the data set; -1 for an item without a row."""

    def __len__(self) -> int:
        return len(self.rows)

    def known(self) -> "Catalog":
        """The items with a fitting row, which come first, under the same indices.

        Training must see no others: which items only evaluation rows have is not known then, and their rare id, as a
        negative of every row, would rank last.
        """
        n = int(np.count_nonzero(self.n_impressions))
        index = np.where(self.catalog_index_of_item < n, self.catalog_index_of_item, -1)
        return Catalog(
            names=self.names[:n],
            rows=self.rows[:n],
            n_impressions=self.n_impressions[:n],
            n_positives=self.n_positives[:n],
            recent=self.recent[:n],
            recent_positives=self.recent_positives[:n],
            trending=None if self.trending is None else self.trending[:n],
            catalog_index_of_item=index,
        )

    def entries(self, split: Split, rows: np.ndarray) -> np.ndarray:
        """Returns the [n] catalog indices of the items of rows; -1 for a row without an item."""
        items = split.store.items(rows)
        return np.where(items < 0, -1, self.catalog_index_of_item[items])


def build_catalog(
    split: Split,
    rows: Rows,
    evaluation_rows: Sequence[Rows],
    is_clicked_only: bool,
    half_life_days: float | None = None,
) -> Catalog:
    """Builds the catalog of all items of the training and evaluation rows; popularity counts only training rows.

    Args:
        split: the data set of the rows.
        rows: training rows.
        evaluation_rows: evaluation rows, which may contain new items.
        is_clicked_only: whether only clicks count as positives.
        half_life_days: days after which a row has half its weight in `recent`; None gives all rows equal weights.

    Raises:
        InputError: when no row has an item.
    """
    store = split.store
    n_items = len(store.item_names)
    first = np.full(n_items, np.iinfo(np.int64).max)
    has_days, day_of = store.days(first[:0]) is not None, _day_of_rows(store, rows)
    by_day: dict[int, np.ndarray] = {}  # [2, items] rows and positives
    for source in (rows, *evaluation_rows):
        for numbers in source.blocks():
            items = store.items(numbers)
            numbers, items = numbers[items >= 0], items[items >= 0]
            np.minimum.at(first, items, numbers)
            if source is rows:
                is_positive = store.labels(numbers) == 1 if is_clicked_only else np.ones(len(items), bool)
                days = day_of(numbers)
                for day in np.unique(days).tolist():
                    selections = (days == day, (days == day) & is_positive)
                    counts = np.stack([np.bincount(items[selection], minlength=n_items) for selection in selections])
                    by_day[day] = by_day.get(day, 0) + counts
    codes = np.flatnonzero(first < np.iinfo(np.int64).max)
    if len(codes) == 0:
        raise InputError(f"{store.folder}: no row has a target item: fill the column of schema.target_item")
    n_impressions, n_positives = sum(by_day.values(), np.zeros((2, n_items), np.int64))
    codes = codes[np.lexsort((codes, -n_positives[codes], -n_impressions[codes]))]
    half_life_days = half_life_days if has_days else None
    recent, recent_positives = _weighted_by_age(by_day, half_life_days or np.inf, n_items)
    trending = None
    if len(by_day) > 1:
        default_half_life = max(1.0, (max(by_day) - min(by_day)) / 8)
        trending = _weighted_by_age(by_day, half_life_days or default_half_life, n_items)[1][codes]
    catalog_index_of_item = np.full(n_items, -1, np.int32)
    catalog_index_of_item[codes] = np.arange(len(codes))
    return Catalog(
        names=store.item_names.take(pa.array(codes)),
        rows=first[codes],
        n_impressions=n_impressions[codes],
        n_positives=n_positives[codes],
        recent=recent[codes],
        recent_positives=recent_positives[codes],
        trending=trending,
        catalog_index_of_item=catalog_index_of_item,
    )


def _day_of_rows(store: RowStore, rows: Rows) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what gives the days of rows: without days, one of `_N_PERIODS` parts of the time, and else one for all.

    Args:
        store: the rows.
        rows: those that are counted.
    """
    blocks = (store.times(block) for block in rows.blocks())
    n_times = max((int(times.max()) + 1 for times in blocks if times is not None), default=0)

    def days(numbers: np.ndarray) -> np.ndarray:
        found = store.days(numbers)
        if found is not None:
            return found
        times = store.times(numbers)
        return np.full(len(numbers), NO_DAY, np.int16) if times is None else times * _N_PERIODS // n_times

    return days


def _weighted_by_age(by_day: Mapping[int, np.ndarray], half_life_days: float, n_items: int) -> np.ndarray:
    """Returns [2, I] sums of the counts by day, halved every `half_life_days` before the last day."""
    weighted = (0.5 ** ((max(by_day) - day) / half_life_days) * counts for day, counts in by_day.items())
    return sum(weighted, np.zeros((2, n_items)))


def item_batch(split: Split, rows: np.ndarray, sequences: Sequence[str], item_sequences: Sequence[str]) -> Batch:
    """Encodes the items of rows as a batch in which all features but the item's are empty.

    Args:
        split: encodes the rows.
        rows: [n] a row of each item.
        sequences: all sequence features of the batch.
        item_sequences: the item's sequence features.

    Returns:
        A batch with n_rows=0: n items, without labels.
    """
    n = len(rows)
    batch = split.batch(rows, item_sequences)
    item_columns = set(split.schema.towers["item"])
    item_categorical = [key for key in batch.sparse.keys() if key in item_columns]  # noqa: SIM118
    sparse = _fill_missing(batch.sparse, list(split.schema.categorical), item_categorical, n)
    has_weights = any(s.name in sequences for s in split.schema.column_sequences)
    return Batch(
        dense=batch.dense,
        sparse=sparse,
        sequences=_fill_missing(batch.sequences, list(sequences), list(item_sequences), n, has_weights),
        label=torch.full((n,), torch.nan),
        row=batch.row,
        is_real=batch.is_real,
        n_rows=0,
    )


def _fill_missing(
    jagged: KeyedJaggedTensor, keys: list[str], nonempty_keys: list[str], n_rows: int, has_weights: bool = False
) -> KeyedJaggedTensor:
    """Returns a tensor of all `keys`; keys outside `nonempty_keys` are empty in every row."""
    no_lengths = torch.zeros(n_rows, dtype=torch.int32)
    features = {key: jagged[key] for key in nonempty_keys}
    values = [feature.values() for feature in features.values()]
    weights = None
    if has_weights:
        given_weights = [feature.weights_or_none() for feature in features.values()]
        weights = [torch.ones(len(v)) if w is None else w for v, w in zip(values, given_weights, strict=True)]
    return KeyedJaggedTensor(
        keys=keys,
        values=torch.cat(values) if values else torch.zeros(0, dtype=torch.int32),
        lengths=torch.cat(
            [features[key].lengths() if key in features else no_lengths for key in keys] or [no_lengths[:0]]
        ),
        weights=None if weights is None else torch.cat([*weights, torch.zeros(0)]),
        stride=n_rows,
    )
