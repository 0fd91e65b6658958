"""The scan: checks labels, ids, days and the split column of all rows, and assigns a group to each row."""

from dataclasses import dataclass, replace

import numpy as np

from recsys.data.config import PrepareConfig
from recsys.data.groups import NO_DAY, NO_FOLD, PARTITIONS, Group, Partition
from recsys.errors import InputError
from recsys.prepare.partition.clusters import Clusters, clusters_of_copies, clusters_of_users
from recsys.prepare.partition.columns import ScanColumns
from recsys.prepare.partition.folds import assign_folds, n_exact_copies, select_tuning
from recsys.prepare.partition.groups import group_rows
from recsys.prepare.partition.windows import windows_of_days, windows_of_times
from recsys.raw.logs import read_keys_and_order
from recsys.raw.order.last_out import n_later_rows
from recsys.raw.order.moments import join_moments
from recsys.raw.order.time_split import days_of, split_by_time
from recsys.raw.source import Source
from recsys.system.hashing import as_fraction, mix

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
    user: np.ndarray | None = None
    """[n] int32: number of the row's user, NO_USER for null; None if the schema names no user."""
    user_hashes: np.ndarray | None = None
    """[n_users] uint64 of the users' values."""

    @property
    def window(self) -> np.ndarray:
        """[n] uint8: the row's forward window, 0 if it is in none."""
        return np.array([group.window for group in self.groups], np.uint8)[self.group]


def sample_hashes(hashes: np.ndarray, seed: int) -> np.ndarray:
    """Returns [n] float64 in [0, 1): a row is in the numeric sample if its value is below the sampling rate."""
    return as_fraction(mix(mix(hashes, _SAMPLE_SEED), seed))


def scan_source(source: Source, config: PrepareConfig) -> Scan:
    """Reads label, id, user, day, split and weight columns of all files.

    Raises:
        InputError: for a label other than 0 / 1, a null or repeated id, an unknown split, a value that is no weight, or
            a training set without both classes.
    """
    schema = source.schema
    columns = ScanColumns(source)
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
        condition = schema.label_condition
        listed = (
            f" (1 for the values {', '.join(map(repr, condition.values))})" if condition and condition.values else ""
        )
        raise InputError(f"training labels {schema.label!r}{listed} are all {only_label}: training needs both 0 and 1")
    weight_n = None
    if schema.weight is not None:
        weight_n = np.concatenate(columns.weights)
        if any(not weight_n[is_train & (label_n == label)].any() for label in (0, 1)):
            raise InputError(
                f"{source.files['train'][0].path}: {schema.weight.role} column {schema.weight.column!r} is 0 in all "
                "training rows of one class: training needs both classes with weights above 0"
            )
    day_n, holdout_day = np.full(len(label_n), NO_DAY, np.int16), None
    if schema.day is not None:
        days = days_of(join_moments(columns.days, f"the day (column {schema.day!r})"), schema.day)
        day_n[is_train_file] = days.index
        train_days = np.unique(day_n[is_train])
        holdout_day = days.names[train_days[-1]] if len(train_days) > 1 else None
    window_n = np.zeros(len(label_n), np.uint8)
    if holdout_day is not None:
        window_n[is_train] = windows_of_days(day_n[is_train], config.folds.n_windows)
    elif time_n is not None:
        window_n[is_train] = windows_of_times(time_n[is_train], config.folds.n_windows)
    scan = Scan(
        label=label_n,
        group=np.zeros(0, np.uint8),
        hashes=hash_n,
        day=day_n,
        groups=[],
        holdout_day=holdout_day,
        has_id=columns.has_id,
        split=split_n,
        fold=np.zeros(0, np.int16),
        time=time_n,
        weight=weight_n,
        n_clipped=0 if weight_n is None else int(np.concatenate(columns.is_clipped)[is_train].sum()),
    )
    if (users := columns.users()) is not None:
        scan = replace(scan, user=users[0], user_hashes=users[1])
    return _with_groups(scan, _clusters(scan, is_train, None, config), is_train, window_n, config)


def _clusters(scan: Scan, is_train: np.ndarray, content: np.ndarray | None, config: PrepareConfig) -> Clusters:
    """Returns the clusters of training rows, given their content if the rows may have copies."""
    hashes = scan.hashes[is_train]
    if scan.user is None or scan.user_hashes is None or config.folds.by == "row":
        return clusters_of_copies(hashes, content)
    return clusters_of_users(scan.user[is_train], scan.user_hashes, hashes, content)


def _with_groups(
    scan: Scan, clusters: Clusters, is_train: np.ndarray, window: np.ndarray, config: PrepareConfig
) -> Scan:
    """Returns the scan with the folds, the tuning part and the groups of its rows."""
    fold_n = np.full(len(scan.label), NO_FOLD, np.int16)
    fold_n[is_train] = assign_folds(clusters, scan.label[is_train], config)
    is_tuning_n = np.zeros(len(scan.label), bool)
    is_tuning_n[is_train] = select_tuning(clusters, window[is_train], config)
    holdout = int(window.max()) if scan.holdout_day is not None else None
    groups, group_n = group_rows(scan.label, scan.split, fold_n, window, is_tuning_n, config, scan.weight, holdout)
    return replace(scan, group=group_n, groups=groups, fold=fold_n)


def with_copies_together(scan: Scan, content: np.ndarray, config: PrepareConfig) -> Scan:
    """Returns the scan with copies counted, and rows of equal features and day in one fold.

    Rows with ids keep their folds, which depend on nothing else, and so do the rows of users, in folds by user.

    Args:
        scan: the scan.
        content: [n] uint64 hashes of the rows' features.
        config: settings of folds.
    """
    if scan.has_id["train"]:
        return scan
    is_train = scan.split == PARTITIONS.index("train")
    train_content = mix(content[is_train], 0) + scan.day[is_train].astype(np.uint64)
    clusters = _clusters(scan, is_train, train_content, config)
    together = _with_groups(scan, clusters, is_train, scan.window, config)
    if scan.user is not None:
        train_content = mix(train_content, 0) + scan.user[is_train].astype(np.uint64)
    return replace(together, n_copies=n_exact_copies(train_content, scan.label[is_train]))


def judged_parts(scan: Scan) -> np.ndarray:
    """Returns the [n] uint8 parts of rows that are evaluated together: forward windows, then valid and test rows.

    0 stands for training rows before the first window.
    """
    parts = scan.window
    n_windows = int(parts.max(initial=0))
    for number, partition in enumerate(PARTITIONS[1:], n_windows + 1):
        parts[scan.split == PARTITIONS.index(partition)] = number
    return parts


def _n_repeated(hashes: np.ndarray) -> int:
    ordered = np.sort(hashes)
    return int(np.sum(ordered[1:] == ordered[:-1]))
