"""Reads the columns that decide the partition of rows: labels, ids, users, days, splits and weights."""

import numpy as np

from recsys.data.groups import NO_LABEL, NO_USER, PARTITIONS, Partition
from recsys.errors import InputError
from recsys.raw.blocks import Block
from recsys.raw.ids_and_labels import read_ids, read_label, read_weights
from recsys.raw.logs import key_form, read_order
from recsys.raw.order.moments import Moments
from recsys.raw.source import Source
from recsys.raw.tokens import encode_values
from recsys.schema.kinds import ValueForm
from recsys.system.hashing import hash_ids


class ScanColumns:
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
        self._users: list[tuple[np.ndarray, np.ndarray]] = []
        user = source.schema.user
        self._user_form = ValueForm() if user is None else key_form(source, user, "schema.user")

    def read(self, split: Partition) -> None:
        """Reads the columns of a split's files."""
        source, schema = self._source, self._source.schema
        available = source.columns_of(split)
        self.has_id[split] = schema.id is not None and schema.id in available
        is_train = split == "train"
        has_label = schema.label is None or schema.label in available
        optional = {schema.id: self.has_id[split], schema.label: has_label}
        optional |= {schema.day: is_train, schema.split: is_train}
        has_user = schema.user is not None and schema.user in source.all_columns_of(split)
        optional[schema.user] = optional.get(schema.user, False) or has_user
        weight, has_weight = schema.weight, False
        if weight is not None:  # rows without labels are not evaluated: their weights are not read
            has_weight = has_label and weight.column in source.all_columns_of(split)
            optional[weight.column] = has_weight
        columns = [c for c, is_read in optional.items() if c is not None and is_read]
        if not columns:  # tables without columns cannot be joined to blocks
            n = source.n_rows(split)
            self.labels.append(np.full(n, 1 if has_label else NO_LABEL, np.uint8))
            self.hashes.append(np.arange(n, dtype=np.uint64))
            self._add_users(None, n)
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
            self._add_users(block if has_user else None, n)
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

    def _add_users(self, block: Block | None, n: int) -> None:
        """Adds the users of the [n] rows of a block, or null users if the files have none."""
        column = self._source.schema.user
        if column is None:
            return
        if block is None:
            self._users.append((np.full(n, NO_USER, np.int32), np.zeros(0, np.uint64)))
            return
        users = encode_values(block.table[column], f"{block.span}: user column {column!r}", self._user_form)
        self._users.append((users.codes, hash_ids(users.values)))

    def users(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns the [n] int32 users of all rows, NO_USER for null, and the [n_users] uint64 hashes of their values.

        Users are numbered by hash, so that their numbers do not depend on the order of rows. Only hashes of values are
        kept, not text. None without a user column.
        """
        if not self._users:
            return None
        hashes, number = np.unique(np.concatenate([hashes for _, hashes in self._users]), return_inverse=True)
        number = np.append(number, NO_USER).astype(np.int32)  # the last entry is for null
        starts = np.cumsum([0, *(len(hashes) for _, hashes in self._users[:-1])])
        blocks = zip(self._users, starts, strict=True)
        numbers = [number[np.where(codes < 0, NO_USER, codes + start)] for (codes, _), start in blocks]
        self._users.clear()
        return np.concatenate(numbers), hashes

    def _moments(self, block: Block, column: str, role: str) -> list[Moments]:
        moments = read_order(self._source, block.parts(), column, f"the {role}", is_day=role == "day")
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
