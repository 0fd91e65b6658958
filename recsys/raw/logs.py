"""Reads the columns that order rows over all files: those of log sequences, and of a leave-last-out split."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.data.groups import PARTITIONS, Partition
from recsys.data.vocabulary import Codes
from recsys.errors import InputError
from recsys.raw.derive import meets_condition
from recsys.raw.forms import columns_in_files, common_form
from recsys.raw.order.history import History, LogRows, build_history
from recsys.raw.order.moments import Moments, Timeline, join_moments, read_days, read_moments
from recsys.raw.source import Source
from recsys.raw.tokens import encode_values, join_codes
from recsys.schema.config import Condition, LogSequence
from recsys.schema.kinds import ValueForm


def with_histories(source: Source, part: np.ndarray) -> Source:
    """Returns the source with the sequences of `schema.logs`, built from the rows of all its files.

    Args:
        source: the files.
        part: [n] uint8 parts of all rows, as in `LogRows`.

    Raises:
        InputError: for an order that has no common meaning, or a condition that does not fit its column.
    """
    histories: dict[str, dict[Partition, History]] = {}
    for name, log in source.schema.logs.items():
        history = build_history(log, _read_log(source, name, log, part))
        histories[name], n_before = {}, 0
        for split in PARTITIONS:
            row_slice = slice(n_before, n_before + source.n_rows(split))
            histories[name][split] = History(
                history.steps, history.starts[row_slice], history.ends[row_slice], history.full_lengths[row_slice]
            )
            n_before = row_slice.stop
    return replace(source, histories=histories)


def _read_log(source: Source, name: str, log: LogSequence, part: np.ndarray) -> LogRows:
    role = f"the order of schema.sequences.{name}"
    item_form = source.schema.form_of(next(s.vocabulary for s in source.schema.token_sequences if s.name == name))
    form_of_key = key_form(source, log.key, f"the key of schema.sequences.{name}")
    keys, items, moments, is_step = [], [], [], []
    for split in PARTITIONS:
        if not source.files[split]:
            continue
        columns, condition = [log.key, log.item, log.order], log.where
        if condition is not None and condition.column not in source.all_columns_of(split):
            condition = None  # files without labels may lack the column: their rows are no steps
        if condition is not None:
            columns.append(condition.column)
        for block in source.blocks(split, list(dict.fromkeys(columns))):
            keys.append(encode_values(block.table[log.key], f"{block.span}: column {log.key!r}", form_of_key))
            items.append(encode_values(block.table[log.item], f"{block.span}: column {log.item!r}", item_form))
            moments += read_order(source, block.parts(), log.order, role)
            if log.where is None:
                is_step.append(np.ones(block.table.num_rows, bool))
            elif condition is None:
                is_step.append(np.zeros(block.table.num_rows, bool))
            else:
                is_step.append(_condition(condition, block.table[condition.column], name))
    if log.where is not None and not any(steps.any() for steps in is_step):
        raise InputError(
            f"schema.sequences.{name}.where: no row meets the condition: correct it, or remove the sequence"
        )
    return LogRows(join_codes(keys), join_codes(items), join_moments(moments, role), np.concatenate(is_step), part)


def _condition(condition: Condition, column: pa.ChunkedArray, name: str) -> np.ndarray:
    try:
        return meets_condition(condition, column)
    except InputError as error:
        raise InputError(f"schema.sequences.{name}.where: {error}") from error


def read_keys_and_order(source: Source, key: str, order: str) -> tuple[Codes, Timeline]:
    """Reads the key and the order of all rows of the training files."""
    role, form = "the order of schema.split", key_form(source, key, "the key of schema.split")
    keys: list[Codes] = []
    moments: list[Moments] = []
    for block in source.blocks("train", list(dict.fromkeys([key, order]))):
        keys.append(encode_values(block.table[key], f"{block.span}: column {key!r}", form))
        moments += read_order(source, block.parts(), order, role)
    return join_codes(keys), join_moments(moments, role)


def read_order(
    source: Source, parts: Iterable[tuple[Path, pa.Table]], column: str, role: str, is_day: bool = False
) -> list[Moments]:
    """Reads the order column of the rows of each file; that of the day may contain names of weekdays."""
    named, is_untyped = f"{role} (column {column!r})", source.is_untyped(column)
    read = read_days if is_day else read_moments
    return [read(table[column], path, named, is_untyped) for path, table in parts]


def key_form(source: Source, key: str, role: str) -> ValueForm:
    """Returns the form in which equal keys of all files have equal text.

    Raises:
        InputError: if files have keys of kinds that cannot be equal.
    """
    files = [file for split in PARTITIONS for file in source.files[split]]
    if key in source.references and any(key in file.types for file in files):
        return common_form(columns_in_files([key], files, source.schema, source.references), role)
    return ValueForm()
