"""Numeric statistics from a sample of rows chosen by the hash of their ids.

The sample allows statistics after clipping in one pass, bounds memory, and does not depend on the order of rows. Nulls
are counted exactly, over all training rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from recsys.data.config import NumericTransform, PrepareConfig
from recsys.data.transforms import N_KNOTS, NumericStats, signed_log
from recsys.errors import InputError
from recsys.patterns import by_column
from recsys.system.threads import in_threads


@dataclass
class NumericCounter:
    """Collects the sample and counts the nulls of the measured columns over a stream of batches."""

    columns: tuple[str, ...]
    n_groups: int
    _values: list[np.ndarray] = field(default_factory=list)
    _groups: list[np.ndarray] = field(default_factory=list)
    _hashes: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.n_null = np.zeros((self.n_groups, len(self.columns)), np.int64)
        # Columns are null in the same rows if these sums of row hashes are equal: they share one indicator.
        self.null_rows = np.zeros((self.n_groups, len(self.columns)), np.uint64)

    def add(self, values: np.ndarray, group: np.ndarray, hashes: np.ndarray, is_sampled: np.ndarray) -> None:
        """Counts a batch.

        Args:
            values: [n, n_columns] float32, NaN where null.
            group: [n] uint8.
            hashes: [n] uint64, well mixed.
            is_sampled: [n] bool.
        """
        is_null = np.isnan(values)
        null_row_numbers = np.flatnonzero(is_null.any(axis=1))
        for index in np.unique(group[null_row_numbers]):
            group_rows = null_row_numbers[group[null_row_numbers] == index]
            self.n_null[index] += is_null[group_rows].sum(axis=0)
            self.null_rows[index] += np.where(is_null[group_rows], hashes[group_rows, None], np.uint64(0)).sum(
                axis=0, dtype=np.uint64
            )
        self._values.append(values[is_sampled])
        self._groups.append(group[is_sampled])
        self._hashes.append(hashes[is_sampled])

    def merge(self, other: "NumericCounter") -> None:
        """Adds the sample and counts of another counter, over other rows."""
        self.n_null += other.n_null
        self.null_rows += other.null_rows
        self._values += other._values
        self._groups += other._groups
        self._hashes += other._hashes

    def finish(self) -> "NumericSample":
        """Returns the sample; the order of its rows does not depend on the batches."""
        if not self._values:
            no_values = np.zeros((0, len(self.columns)), np.float32)
            return NumericSample(self.columns, no_values, np.zeros(0, np.uint8), self.n_null, self.null_rows)
        order = np.argsort(np.concatenate(self._hashes), kind="stable")
        values = np.concatenate(self._values)
        self._values.clear()
        return NumericSample(
            self.columns, values[order], np.concatenate(self._groups)[order], self.n_null, self.null_rows
        )


@dataclass(frozen=True)
class NumericSample:
    """Sampled training rows, with the exact null counts of all training rows."""

    columns: tuple[str, ...]
    values: np.ndarray
    """[n_sampled, n_columns] float32."""
    group: np.ndarray
    """[n_sampled] uint8."""
    n_null: np.ndarray
    """[n_groups, n_columns] int64."""
    null_rows: np.ndarray
    """[n_groups, n_columns] uint64: see `NumericCounter`."""

    def measure(self, config: PrepareConfig, splits: dict[str, list[int]]) -> dict[str, dict[str, NumericStats]]:
        """Computes statistics by split and column.

        Args:
            config: settings of clipping and transforms.
            splits: the groups each split is fitted on.

        Raises:
            InputError: for a column without a number in the training rows.
        """
        stats: dict[str, dict[str, NumericStats]] = {name: {} for name in splits}
        results = in_threads(lambda index: self._measure(index, config, splits), range(len(self.columns)))
        for index, column_stats in results:
            for name in splits:
                stats[name][self.columns[index]] = column_stats[name]
        return stats

    def _measure(self, index: int, config: PrepareConfig, splits: dict[str, list[int]]) -> dict[str, NumericStats]:
        """Computes the statistics of one column by split; the column is sorted once for all splits."""
        column, values = self.columns[index], self.values[:, index]
        transform = by_column(config.numeric_transform, config.numeric_transform_by_column, column, self.columns)
        is_finite = np.isfinite(values)
        values, group = sort_values_and_groups(values[is_finite], self.group[is_finite])
        ordered, stats = values.astype(np.float64), dict[str, NumericStats]()
        of_groups: dict[tuple[int, ...], NumericStats] = {}  # the last window and the holdout have the same
        for name, fit_groups in splits.items():
            if (known := of_groups.get(tuple(fit_groups))) is not None:
                stats[name] = known
                continue
            is_fitted = np.zeros(len(self.n_null), bool)
            is_fitted[fit_groups] = True
            fit_values = ordered[is_fitted[group]]
            if len(fit_values) == 0 and name == "full":
                raise InputError(
                    f"column {column!r} has no number in the training rows: remove it from the schema (where a pattern "
                    "matches it: add it to schema.ignore), or fill it"
                )
            n_null = int(self.n_null[fit_groups, index].sum())
            stats[name] = measure_column(fit_values, transform, config.clip_quantile, n_null)
            of_groups[tuple(fit_groups)] = stats[name]
        return stats

    def missing_indicators(self, fit_groups: Sequence[int], columns: Sequence[str]) -> list[tuple[str, ...]]:
        """Returns sets of columns that are null in the same fitting rows; each set shares one indicator."""
        columns_by_rows: dict[tuple[int, int], list[str]] = {}
        for column in columns:
            index = self.columns.index(column)
            n_null = int(self.n_null[list(fit_groups), index].sum())
            with np.errstate(over="ignore"):
                hash_sum = int(self.null_rows[list(fit_groups), index].sum(dtype=np.uint64))
            if n_null:
                columns_by_rows.setdefault((n_null, hash_sum), []).append(column)
        return [tuple(names) for names in columns_by_rows.values()]


def sort_values_and_groups(values: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorts [n] float32 values, ascending, and their [n] uint8 groups with them.

    A value and its group are packed into one integer: sorting integers takes a tenth of the time of an argsort.
    """
    bits = values.view(np.uint32)
    sign = np.uint32(1 << 31)
    sortable = np.where(bits & sign, ~bits, bits | sign).astype(np.uint64)
    ordered = np.sort(sortable << np.uint64(8) | group)
    sortable = (ordered >> np.uint64(8)).astype(np.uint32)
    return np.where(sortable & sign, sortable ^ sign, ~sortable).view(np.float32), ordered.astype(np.uint8)


def measure_column(ordered: np.ndarray, transform: NumericTransform, clip_quantile: float, n_null: int) -> NumericStats:
    """Computes the statistics of one column.

    Args:
        ordered: [n] float64, ascending and finite; if empty, the column transforms to zero.
        transform: the transform that uses the statistics.
        clip_quantile: values are clipped to the quantiles clip_quantile and 1 - clip_quantile.
        n_null: number of nulls, copied to the result.
    """
    if len(ordered) == 0:
        return NumericStats(transform="none", n_null=n_null, low=0.0, high=0.0, mean=0.0, std=0.0)
    low, high = quantiles(ordered, np.array([clip_quantile, 1 - clip_quantile]))
    if low == high:  # other values are rarer than clip_quantile: clipping would make the column constant
        low, high = ordered[0], ordered[-1]
    clipped = np.clip(ordered, low, high)
    if transform == "log":
        clipped = signed_log(clipped)
    knots = quantiles(clipped, np.linspace(0, 1, N_KNOTS)) if transform == "quantile_normal" else np.zeros(0)
    return NumericStats(
        transform=transform,
        n_null=n_null,
        low=float(low),
        high=float(high),
        mean=float(clipped.mean()),
        std=float(clipped.std()),
        knots=tuple(float(knot) for knot in knots),
    )


def quantiles(ordered: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """`np.quantile` of [n] ascending numbers, without sorting them again."""
    position = levels * (len(ordered) - 1)
    low = np.floor(position).astype(np.int64)
    fraction = position - low
    lower, upper = ordered[low], ordered[np.minimum(low + 1, len(ordered) - 1)]
    return np.where(fraction < 0.5, lower + (upper - lower) * fraction, upper - (upper - lower) * (1 - fraction))
