"""A case of preparation: files with columns of any types, a schema, and the reasons for which it may be refused."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.config import RawFiles
from recsys.data.groups import PARTITIONS, Partition
from recsys.schema.config import SchemaConfig
from tests.helpers.any_column import Column, meanings, moments
from tests.helpers.any_values import DAY_NS, is_exact, local_day

File = tuple[Partition, int]
"""Split and number of rows."""
Rows = Sequence[Sequence[Hashable]]
"""Identities of the values of each row; a column of single values has one in each row."""


@dataclass(frozen=True)
class Refusal:
    """A reason to refuse a case; the message has all of the words."""

    words: tuple[str, ...]
    is_required: bool = True


@dataclass(frozen=True)
class Case:
    """Files with columns, a side table and a schema. Entry i of a column is row i of the prepared data set."""

    files: tuple[File, ...]
    """Train files first, then valid, then test."""
    columns: tuple[Column, ...]
    roles: dict[str, Any]
    """Keys of the schema."""
    refusals: tuple[Refusal, ...]
    side: tuple[Column, ...] = ()
    """The columns of the side table: the key and the value."""
    partitions: tuple[Partition, ...] = ()
    """The partition of each row, if it is not the split of its file."""

    @property
    def schema(self) -> SchemaConfig:
        """The schema, with a numeric feature that every file has."""
        return SchemaConfig.model_validate({"label": "click", "numeric": ["x"]} | self.roles)

    @property
    def splits(self) -> tuple[Partition, ...]:
        """The partition of each row."""
        return self.partitions or splits_of(self.files)

    def write(self, folder: Path) -> RawFiles:
        """Writes all files."""
        names = file_names(self.files)
        for index, (name, file) in enumerate(zip(names, self.files, strict=True)):
            table = {column.name: column.written(index) for column in self.columns}
            label = pa.array(labels_of([file]), pa.int8())
            table |= {"x": pa.array([float(row) for row in range(len(label))]), "click": label}
            pq.write_table(pa.table(table), folder / name)
        if self.side:
            pq.write_table(pa.table({column.name: column.written(0) for column in self.side}), folder / "side.parquet")
        paths: dict[Partition, tuple[str, ...]] = {
            split: tuple(name for name, (s, _) in zip(names, self.files, strict=True) if s == split)
            for split in PARTITIONS
        }
        return RawFiles(train=paths["train"], valid=paths["valid"], test=paths["test"])


def may_refuse(case: Case) -> bool:
    return bool(case.refusals)


def must_refuse(case: Case) -> bool:
    return any(refusal.is_required for refusal in case.refusals)


def labels_of(files: Sequence[File]) -> list[int]:
    """Returns the label of each row."""
    return [row % 2 for _, n in files for row in range(n)]


def splits_of(files: Sequence[File]) -> tuple[Partition, ...]:
    """Returns the split of the file of each row."""
    return tuple(split for split, n in files for _ in range(n))


def file_names(files: Sequence[File]) -> list[str]:
    return [f"{split}_{index}.parquet" for index, (split, _) in enumerate(files)]


def one_kind(column: Column, files: Sequence[File], is_time: bool = False) -> list[Refusal]:
    """Returns the pairs of files in which a column has different kinds; text may stand beside typed times."""
    names, found = file_names(files), []
    named = [(index, part.form.kind) for index, part in enumerate(column.parts) if part.form.kind != "null"]
    for (a, kind_a), (b, kind_b) in combinations(named, 2):
        if kind_a != kind_b and not (is_time and {kind_a, kind_b} in ({"text", "naive"}, {"text", "instant"})):
            found.append(Refusal((column.name, names[a], column.stored(a), names[b], column.stored(b))))
    return found


def exact(column: Column) -> list[Refusal]:
    """Returns the refusal of whole numbers that a float type may have rounded."""
    is_fine = all(is_exact(form, value) for form, values in column.rows() for value in values)
    return [] if is_fine else [Refusal((column.name, "not exact"))]


def one_table(columns: Sequence[Column], files: Sequence[File]) -> list[Refusal]:
    """Returns the refusals of columns that share a table."""
    found = [refusal for column in columns for refusal in (*exact(column), *one_kind(column, files))]
    for a, b in combinations(columns, 2):
        kinds = {part.form.kind for part in (*a.parts, *b.parts)} - {"null"}
        if len(kinds) > 1 and kinds != {"number", "text"}:
            found += [Refusal((a.name,)), Refusal((b.name,))]
    return found


def in_time(column: Column, files: Sequence[File], role: str) -> list[Refusal]:
    """Returns the refusals of an order, day or split column, in which text is a time.

    Args:
        column: the column.
        files: its files.
        role: a word of messages that name the role instead of the column.
    """
    found = [replace(refusal, is_required=False) for refusal in (*one_kind(column, files, True), *exact(column))]
    by_file = [
        (name, {value[0] for value in moments(replace(column, parts=(part,))) if value is not None})
        for name, part in zip(file_names(files), column.parts, strict=True)
    ]
    found += [Refusal((role, a, b)) for (a, first), (b, second) in combinations(by_file, 2) if len(first | second) > 1]
    values = [value for value in moments(column) if value is not None]
    kinds = {kind for kind, _ in values}
    if "text" in kinds or kinds & {"boolean", "clock"} or any(len(own) > 1 for _, own in by_file):
        found.append(Refusal((column.name,)))
    has_others = any(part.form.kind in ("boolean", "clock") for part in column.parts)
    has_float = any(part.form.width for part in column.parts)
    if has_others or (has_float and any(kind == "number" and abs(value) >= 2**53 for kind, value in values)):
        found.append(Refusal((column.name,), is_required=False))
    return found


def has_values(name: str, rows: Rows, splits: Sequence[Partition]) -> list[Refusal]:
    """Returns the refusal of a table without any value in the training rows."""
    values = [value for row, split in zip(rows, splits, strict=True) for value in row if split == "train"]
    return [] if any(value is not None for value in values) else [Refusal((name, "no value"))]


def both_classes(files: Sequence[File], splits: Sequence[Any]) -> list[Refusal]:
    """Returns the refusal of training rows that lack one of the classes."""
    found = {label for label, split in zip(labels_of(files), splits, strict=True) if split == "train"}
    return [] if len(found) == 2 else [Refusal(("training labels",))]


def has_both_classes(files: Sequence[File], values: Sequence[Any], start: tuple[str, Any]) -> bool:
    """Returns whether the rows before a time have both classes."""
    is_before = [value is not None and value < start for value in values]
    return not both_classes(files, ["train" if before else "test" for before in is_before])


def joined(key: Column, side_key: Column, side_value: Column) -> Rows:
    """Returns the value that a side table has for the key of each row; None for a missing or another key."""
    keys, side_keys = meanings([key, side_key])
    values = dict(zip((value for (value,) in side_keys), meanings([side_value])[0], strict=True))
    return [values.get(value, [None]) if value is not None else [None] for (value,) in keys]


def histories(keys: Rows, orders: Sequence[Any], items: Rows) -> list[list[list[Hashable]]]:
    """Returns the items of the earlier rows of each row's key; those of equal order are one inner list."""
    found = []
    for (key,), order in zip(keys, orders, strict=True):
        steps: dict[Any, list[Hashable]] = {}
        if key is not None and order is not None:
            for (other,), earlier, (item,) in zip(keys, orders, items, strict=True):
                if other == key and earlier is not None and earlier < order and item is not None:
                    steps.setdefault(earlier, []).append(item)
        found.append([steps[earlier] for earlier in sorted(steps)])
    return found


def last_out(keys: Rows, orders: Sequence[Any], min_rows: int) -> tuple[Partition, ...]:
    """Returns the partition of each row if each key's last row is test and the row before it valid."""
    rows_of: dict[Hashable, list[int]] = {}
    for row, ((key,), order) in enumerate(zip(keys, orders, strict=True)):
        if key is not None and order is not None:
            rows_of.setdefault(key, []).append(row)
    splits: list[Partition] = ["train"] * len(keys)
    for rows in rows_of.values():
        if len(rows) >= min_rows:
            before, last = sorted(rows, key=lambda row: orders[row])[-2:]
            splits[before], splits[last] = "valid", "test"
    return tuple(splits)


def zone_of(column: Column) -> str:
    """Returns the common zone of the files of a column; UTC if they differ."""
    zones = {part.form.plain.tz for part in column.parts if part.form.kind == "instant"}
    has_text = any(part.form.kind == "text" for part in column.parts)
    return zones.pop() if len(zones) == 1 and not has_text else "UTC"


def days(column: Column) -> list[int | None]:
    """Returns the day of each row: a whole number, or days since 1970-01-01; None for a value without a day."""
    zone = zone_of(column)
    return [None if value is None else _day(*value, zone) for value in moments(column)]


def _day(kind: str, value: Any, zone: str) -> int | None:
    if kind == "naive":
        return value // DAY_NS
    if kind == "instant":
        return local_day(value, zone)
    return int(value) if kind != "text" and value == int(value) else None
