"""The scan: checks labels, ids, days and the split column of all rows, and assigns a group to each row."""

from dataclasses import dataclass, replace

import numpy as np

from recsys.data.config import PrepareConfig
from recsys.data.groups import NO_DAY, NO_FOLD, NO_LABEL, PARTITIONS, Group, Partition
from recsys.errors import InputError
from recsys.prepare.folds import assign_folds, folds_of_first_copies, group_rows, n_exact_copies
from recsys.raw.blocks import Block
from recsys.raw.ids_and_labels import read_ids, read_label, read_weights
from recsys.raw.logs import read_keys_and_order, read_order
from recsys.raw.order.last_out import n_later_rows
from recsys.raw.order.moments import Moments, join_moments
from recsys.raw.order.time_split import days_of, split_by_time
from recsys.raw.source import Source
from recsys.raw.tokens import encode_values
from recsys.system.hashing import as_fraction, hash_ids, mix

_SAMPLE_SEED = 1  # a random stream of a user seed


@dataclass(frozen=True)
class Scan:
    """Result of the scan, with one entry per row: train files first, then valid, then test."""

    label: np.ndarray
    """[n] uint8: 0, 1, or NO_LABEL."""
    group: np.ndarray
    """[n] uint8: index into `groups`."""
    hashes: np.ndarray
    """[n] uint64 of the row ids, not mixed with a seed."""
    day: np.ndarray
    """[n] int16: index of the row's day among the sorted days; -1 if it has none."""
    groups: list[Group]
    holdout_day: str | None
    has_id: dict[Partition, bool]
    split: np.ndarray
    """[n] uint8: position among PARTITIONS."""
    fold: np.ndarray
    """[n] int16: NO_FOLD outside training rows."""
    time: np.ndarray | None = None
    """[n] int64: rank of the row's time, -1 for rows outside the training files; None without a split by time."""
    n_copies: int = 0
    """Training rows that equal an earlier one in every column that is read; not counted if rows have ids."""
    weight: np.ndarray | None = None
    """[n] float32; None if rows have no weights."""
    n_clipped: int = 0
    """Training rows whose weight was clipped."""


def sample_hashes(hashes: np.ndarray, seed: int) -> np.ndarray:
    """Returns [n] float64 in [0, 1): a row is in the numeric sample if its value is below the sampling rate."""
    return as_fraction(mix(mix(hashes, _SAMPLE_SEED), seed))


def scan_source(source: Source, config: PrepareConfig) -> Scan:
    """Reads label, id, day, split and weight columns of all files.

    Raises:
        InputError: for a label other than 0 / 1, a null or repeated id, an unknown split, a value that is no weight, or
            a training set without both classes.
    """
    schema = source.schema
    columns = _Columns(source)
    for split in PARTITIONS:
        if source.files[split]:
            columns.read(split)
    label_n, hash_n = np.concatenate(columns.labels), np.concatenate(columns.hashes)
    split_n = np.repeat(np.arange(len(PARTITIONS), dtype=np.uint8), [source.n_rows(split) for split in PARTITIONS])
    is_train_file, time_n = split_n == PARTITIONS.index("train"), None
    if schema.time_split is not None:
        role = f"the split (column {schema.split!r})"
        timeline = join_moments(columns.times, role)
        split_n[is_train_file] = split_by_time(timeline, schema.time_split)
        time_n = np.full(len(label_n), -1, np.int64)
        time_n[is_train_file] = timeline.dense_ranks(has_ties=True)
    elif columns.splits:
        split_n[is_train_file] = np.concatenate(columns.splits)
    if schema.last_out is not None:
        key, moments = read_keys_and_order(source, schema.last_out.key, schema.last_out.order)
        n_later_n = n_later_rows(key, moments, schema.last_out.min_rows)
        for name, n_later in (("test", 0), ("valid", 1)):
            split_n[np.flatnonzero(is_train_file)[n_later_n == n_later]] = PARTITIONS.index(name)
    for split, has_ids in columns.has_id.items():
        if has_ids and (n_repeated := _n_repeated(hash_n[split_n == PARTITIONS.index(split)])):
            raise InputError(
                f"{split} data: {n_repeated} rows share their id ({schema.id!r}) with another row: make ids unique"
            )

    is_train = split_n == PARTITIONS.index("train")
    if schema.label is not None and len(np.unique(label_n[is_train])) < 2:
        only_label = int(label_n[is_train][0]) if is_train.any() else "absent"
        raise InputError(f"training labels {schema.label!r} are all {only_label}: training needs both 0 and 1")
    weight_n = None
    if schema.weight is not None:
        weight_n = np.concatenate(columns.weights)
        if any(not weight_n[is_train & (label_n == label)].any() for label in (0, 1)):
            raise InputError(
                f"{source.files['train'][0].path}: {schema.weight.role} column {schema.weight.column!r} is 0 in all "
                "training rows of one class: training needs both classes with weights above 0"
            )
    fold_n = np.full(len(label_n), NO_FOLD, np.int16)
    fold_n[is_train] = assign_folds(hash_n[is_train], label_n[is_train], config)
    day_n, holdout_day = np.full(len(label_n), NO_DAY, np.int16), None
    if schema.day is not None:
        days = days_of(join_moments(columns.days, f"the day (column {schema.day!r})"), schema.day)
        day_n[is_train_file] = days.index
        train_days = np.unique(day_n[is_train])
        holdout_day = days.names[train_days[-1]] if len(train_days) > 1 else None
    is_holdout_n = is_train & (day_n == day_n[is_train].max()) & (holdout_day is not None)
    groups, group_n = group_rows(label_n, split_n, fold_n, is_holdout_n, config.n_folds, weight_n)
    scan = Scan(label_n, group_n, hash_n, day_n, groups, holdout_day, columns.has_id, split_n, fold_n, time_n)
    if weight_n is None:
        return scan
    return replace(scan, weight=weight_n, n_clipped=int(np.concatenate(columns.is_clipped)[is_train].sum()))


def with_copies_together(scan: Scan, content: np.ndarray, config: PrepareConfig) -> Scan:
    """Returns the scan with copies counted, and rows of equal features and day in one fold.

    Rows with ids keep their folds, which depend on nothing else.

    Args:
        scan: the scan.
        content: [n] uint64 hashes of the rows' features.
        config: settings of folds.
    """
    if scan.has_id["train"]:
        return scan
    is_train = scan.split == PARTITIONS.index("train")
    train_content = mix(content[is_train], 0) + scan.day[is_train].astype(np.uint64)
    fold_n = scan.fold.copy()
    fold_n[is_train] = folds_of_first_copies(train_content, scan.fold[is_train], config.n_folds)
    is_holdout_n = np.array([group.is_holdout for group in scan.groups])[scan.group]
    groups, group_n = group_rows(scan.label, scan.split, fold_n, is_holdout_n, config.n_folds, scan.weight)
    n_copies = n_exact_copies(train_content, scan.label[is_train])
    return replace(scan, groups=groups, group=group_n, fold=fold_n, n_copies=n_copies)


class _Columns:
    """The columns of a scan, as one array for each block of rows."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.labels: list[np.ndarray] = []
        self.hashes: list[np.ndarray] = []
        self.splits: list[np.ndarray] = []
        self.times: list[Moments] = []
        self.days: list[Moments] = []
        self.has_id: dict[Partition, bool] = {}
        self.weights: list[np.ndarray] = []
        self.is_clipped: list[np.ndarray] = []

    def read(self, split: Partition) -> None:
        """Reads the columns of a split's files."""
        source, schema = self._source, self._source.schema
        available = source.columns_of(split)
        self.has_id[split] = schema.id is not None and schema.id in available
        is_train = split == "train"
        has_label = schema.label is None or schema.label in available
        optional = {schema.id: self.has_id[split], schema.label: has_label}
        optional |= {schema.day: is_train, schema.split: is_train}
        weight, has_weight = schema.weight, False
        if weight is not None:  # rows without labels are not evaluated: their weights are not read
            has_weight = has_label and weight.column in source.all_columns_of(split)
            optional[weight.column] = has_weight
        columns = [c for c, is_read in optional.items() if c is not None and is_read]
        if not columns:  # tables without columns cannot be joined to blocks
            n = source.n_rows(split)
            self.labels.append(np.full(n, 1 if has_label else NO_LABEL, np.uint8))
            self.hashes.append(np.arange(n, dtype=np.uint64))
            return
        n_before = 0
        for block in source.blocks(split, columns):
            n = block.table.num_rows
            self.labels.append(read_label(block, schema) if has_label else np.full(n, NO_LABEL, np.uint8))
            if self.has_id[split]:
                assert schema.id is not None
                self.hashes.append(hash_ids(read_ids(block, schema.id)))
            else:
                self.hashes.append(np.arange(n_before, n_before + n, dtype=np.uint64))
            if weight is not None:
                weights, is_clipped = np.ones(n, np.float32), np.zeros(n, bool)
                if has_weight:
                    weights, is_clipped = read_weights(block, weight, self.labels[-1])
                self.weights.append(weights)
                self.is_clipped.append(is_clipped)
            if is_train and schema.day is not None:
                self.days += self._moments(block, schema.day, "day")
            if is_train and schema.time_split is not None:
                self.times += self._moments(block, schema.time_split.column, "split")
            elif is_train and schema.split is not None:
                self.splits.append(_read_split(block, schema.split))
            n_before += n

    def _moments(self, block: Block, column: str, role: str) -> list[Moments]:
        moments = read_order(self._source, block.parts(), column, f"the {role}")
        for part in moments:
            if part.values.null_count:
                raise InputError(
                    f"{part.path}: {role} column {column!r} has nulls: every training row needs its {role}"
                )
        return moments


def _read_split(block: Block, column: str) -> np.ndarray:
    values = encode_values(block.table[column], f"{block.span}: split column {column!r}")
    names = values.values.to_pylist()
    unknown = [name for name in names if name not in PARTITIONS] + (["null"] if np.any(values.codes < 0) else [])
    if unknown:
        raise InputError(
            f"{block.span}: split column {column!r} contains {unknown[0]!r}: it must be train, valid or test"
        )
    return np.array([PARTITIONS.index(name) for name in names], np.uint8)[values.codes]


def _n_repeated(hashes: np.ndarray) -> int:
    ordered = np.sort(hashes)
    return int(np.sum(ordered[1:] == ordered[:-1]))


def order_by_group(group: np.ndarray, n_groups: int) -> np.ndarray:
    """Returns [n] row numbers, sorted by group and ascending within each group: the fold indices."""
    dtype = np.uint32 if len(group) < 2**32 else np.uint64
    return np.concatenate([np.flatnonzero(group == index).astype(dtype) for index in range(n_groups)])
