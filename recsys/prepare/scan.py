"""The scan: checks labels, ids, days and the split column of all rows, and assigns a group to each row.

A group is a finest set of rows that splits distinguish: (train / valid / test, fold, last day or not). The statistics
of a split are sums over groups, so that no fold needs its own pass.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.config import PrepareConfig
from recsys.data.groups import NO_DAY, NO_FOLD, NO_LABEL, PARTITIONS, Group, Partition
from recsys.errors import InputError
from recsys.raw.derive import meets_condition
from recsys.raw.last_out import n_later_rows
from recsys.raw.source import Source
from recsys.raw.tokens import encode_values
from recsys.schema.config import Condition, LeaveLastOut, TimeSplit
from recsys.schema.resolved import Schema
from recsys.system.hashing import as_fraction, hash_ids, mix

_FOLD_SEED, _SAMPLE_SEED = 0, 1  # random streams of a user seed


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


def sample_hashes(hashes: np.ndarray, seed: int) -> np.ndarray:
    """Returns [n] float64 in [0, 1): a row is in the numeric sample if its value is below the sampling rate."""
    return as_fraction(mix(mix(hashes, _SAMPLE_SEED), seed))


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


def scan_source(source: Source, config: PrepareConfig) -> Scan:
    """Reads label, id, day and split columns of all files.

    Raises:
        InputError: for a label other than 0 / 1, a null or repeated id, an unknown split or a training set without
            both classes.
    """
    schema = source.schema
    labels, hashes, splits, days = [], [], [], []
    day_values: dict[str, int] = {}
    has_id: dict[Partition, bool] = {}
    for split in PARTITIONS:
        if not source.files[split]:
            continue
        available_columns = source.columns_of(split)
        has_id[split] = schema.id is not None and schema.id in available_columns
        has_label = schema.label in available_columns
        optional = {schema.id: has_id[split], schema.label: has_label, schema.day: split == "train"}
        optional[schema.split] = split == "train"
        columns = [c for c, is_read in optional.items() if c is not None and is_read]
        n_before = 0
        for path, table in source.batches(split, columns):
            n = table.num_rows
            label = _read_label(table, schema, path, n_before) if has_label else np.full(n, NO_LABEL, np.uint8)
            labels.append(label)
            if has_id[split]:
                assert schema.id is not None
                ids = table[schema.id].combine_chunks()
                if ids.null_count:
                    raise InputError(f"{path}: id column {schema.id!r} has nulls: every row needs a unique id")
                hashes.append(hash_ids(ids))
            else:
                hashes.append(np.arange(n_before, n_before + n, dtype=np.uint64))
            splits.append(_read_split(table, schema, split, path))
            days.append(
                _read_day(table, schema.day, day_values, path) if split == "train" else np.full(n, -1, np.int32)
            )
            n_before += n
    label_n, hash_n, day_n = np.concatenate(labels), np.concatenate(hashes), np.concatenate(days)
    split_n = np.concatenate(splits)
    if schema.last_out is not None:
        n_later_n = n_later_rows(schema.last_out, _read_keys(source, schema.last_out))
        is_train_file = split_n == PARTITIONS.index("train")
        for name, n_later in (("test", 0), ("valid", 1)):
            split_n[np.flatnonzero(is_train_file)[n_later_n == n_later]] = PARTITIONS.index(name)
    for split, has_ids in has_id.items():
        if has_ids and (n_repeated := _n_repeated(hash_n[split_n == PARTITIONS.index(split)])):
            raise InputError(
                f"{split} data: {n_repeated} rows share their id ({schema.id!r}) with another row: make ids unique"
            )

    is_train = split_n == PARTITIONS.index("train")
    if np.any(label_n[is_train] == NO_LABEL):
        raise InputError(f"{source.files['train'][0]} has no label column {schema.label!r}: training rows need labels")
    if len(np.unique(label_n[is_train])) < 2:
        only_label = int(label_n[is_train][0]) if is_train.any() else "none"
        raise InputError(f"training labels {schema.label!r} are all {only_label}: training needs both 0 and 1")
    fold_n = np.full(len(label_n), NO_FOLD, np.int16)
    fold_n[is_train] = assign_folds(hash_n[is_train], label_n[is_train], config)
    sorted_days = sorted(day_values, key=_day_key)
    holdout_day = sorted_days[-1] if len(day_values) > 1 else None
    day_index = np.full(len(day_values) + 1, NO_DAY, np.int16)  # the last entry is for rows without a day
    day_index[[day_values[name] for name in sorted_days]] = np.arange(len(sorted_days))
    day_n = day_index[day_n]
    is_last_n = (day_n == len(sorted_days) - 1) & is_train if holdout_day is not None else np.zeros(len(day_n), bool)

    key_n = (split_n.astype(np.int32) * (config.n_folds + 1) + fold_n + 1) * 2 + is_last_n
    keys, group_n = np.unique(key_n, return_inverse=True)
    if len(keys) > 255:
        raise InputError(f"prepare.n_folds={config.n_folds} makes {len(keys)} groups of rows, more than 255: lower it")
    groups = []
    for index, key in enumerate(keys):
        group_label = label_n[group_n == index]
        groups.append(
            Group(
                partition=PARTITIONS[int(key) // 2 // (config.n_folds + 1)],
                fold=int(key) // 2 % (config.n_folds + 1) - 1,
                is_holdout=bool(key % 2),
                n_rows=len(group_label),
                n_positive=int(np.sum(group_label == 1)),
            )
        )
    return Scan(label_n, group_n.astype(np.uint8), hash_n, day_n, groups, holdout_day, has_id)


def _read_label(table: pa.Table, schema: Schema, path: Path, n_before: int) -> np.ndarray:
    column, condition = schema.label, schema.label_condition
    values = table[column].combine_chunks()
    if condition is not None:
        if pc.any(pc.is_null(values, nan_is_null=True)).as_py():
            raise InputError(f"{path}: label column {column!r} has nulls: every row needs its label")
        return _evaluate_condition(condition, values, path).astype(np.uint8)
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    requirement = "labels must be 0 or 1"
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        raise InputError(f"{path}: label column {column!r} is {values.type}: {requirement}, as numbers")
    numbers = values.to_numpy(zero_copy_only=False)
    invalid = np.flatnonzero(~((numbers == 0) | (numbers == 1)))
    if len(invalid):
        value = values[int(invalid[0])].as_py()
        raise InputError(f"{path}: label column {column!r} holds {value} in row {n_before + invalid[0]}: {requirement}")
    return numbers.astype(np.uint8)


def _evaluate_condition(condition: Condition, values: pa.Array, path: Path) -> np.ndarray:
    try:
        return meets_condition(condition, values)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"{path}: column {condition.column!r} is {values.type}, which has no min and max: use values instead"
        ) from error


def _read_keys(source: Source, last_out: LeaveLastOut) -> pa.Table:
    columns = [last_out.key, last_out.order]
    return pa.concat_tables([table for _, table in source.batches("train", columns)])


def _read_split(table: pa.Table, schema: Schema, split: Partition, path: Path) -> np.ndarray:
    column = schema.split
    if column is None or split != "train":
        return np.full(table.num_rows, PARTITIONS.index(split), np.uint8)
    if schema.time_split is not None:
        return _split_by_time(table[column].combine_chunks(), schema.time_split, path)
    values = encode_values(table[column], f"{path}: split column {column!r}")
    names = values.values.to_pylist()
    unknown = [name for name in names if name not in PARTITIONS] + (["null"] if np.any(values.codes < 0) else [])
    if unknown:
        raise InputError(f"{path}: split column {column!r} holds {unknown[0]!r}: it must be train, valid or test")
    return np.array([PARTITIONS.index(name) for name in names], np.uint8)[values.codes]


def _split_by_time(values: pa.Array, times: TimeSplit, path: Path) -> np.ndarray:
    if pc.any(pc.is_null(values, nan_is_null=True)).as_py():
        raise InputError(f"{path}: split column {times.column!r} has nulls: every row needs its time")
    split = np.full(len(values), PARTITIONS.index("train"), np.uint8)
    starts: tuple[tuple[Partition, float | str | None], ...]
    starts = (("valid", times.valid_from), ("test", times.test_from))
    for name, start in starts:
        if start is None:
            continue
        try:
            is_later = pc.greater_equal(values, pa.scalar(start).cast(values.type, safe=False))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(
                f"schema.split.{name}_from: {start!r} cannot be compared with column {times.column!r} of {path}, which "
                f"is {values.type}: give a value of its type"
            ) from error
        split[np.asarray(is_later)] = PARTITIONS.index(name)
    return split


def _read_day(table: pa.Table, column: str | None, day_values: dict[str, int], path: Path) -> np.ndarray:
    if column is None:
        return np.full(table.num_rows, -1, np.int32)
    values = encode_values(table[column], f"{path}: day column {column!r}")
    if np.any(values.codes < 0):
        raise InputError(f"{path}: day column {column!r} has nulls: every training row needs its day")
    day_codes = [day_values.setdefault(name, len(day_values)) for name in values.values.to_pylist()]
    return np.array(day_codes, np.int32)[values.codes]


def _day_key(day: str) -> tuple[bool, float, str]:
    """Sort key of a day: numbers in numeric order, then text (ISO dates) in text order."""
    try:
        number = float(day)
    except ValueError:
        number = math.nan
    return (True, 0.0, day) if math.isnan(number) else (False, number, "")


def _n_repeated(hashes: np.ndarray) -> int:
    ordered = np.sort(hashes)
    return int(np.sum(ordered[1:] == ordered[:-1]))


def order_by_group(group: np.ndarray, n_groups: int) -> np.ndarray:
    """Returns [n] row numbers, sorted by group and ascending within each group: the fold indices."""
    dtype = np.uint32 if len(group) < 2**32 else np.uint64
    return np.concatenate([np.flatnonzero(group == index).astype(dtype) for index in range(n_groups)])
