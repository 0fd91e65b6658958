"""Chooses what `schema.encodings: auto` stands for: all categorical features, and pairs that a search finds."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys.data.config import PrepareConfig
from recsys.data.groups import NO_LABEL, PARTITIONS
from recsys.data.vocabulary import Codes
from recsys.prepare.encodings.pair_search import find_pairs
from recsys.prepare.scan import Scan
from recsys.raw.source import Source
from recsys.raw.tokens import encode_values, join_codes
from recsys.schema.encodings import EncodingKind
from recsys.schema.resolved import Schema
from recsys.system.hashing import as_fraction, mix
from recsys.system.progress import console, progress_line

_BOTH: tuple[EncodingKind, ...] = ("count", "ctr")
_BOTH_PAST: tuple[EncodingKind, ...] = ("past_count", "past_ctr")
_RATE: tuple[EncodingKind, ...] = ("ctr",)
_MAX_ROWS = 200_000
"""Rows that the pairs are searched on."""
_MAX_PAIRS = 10
_MAX_FEATURES = 40
"""More features make too many pairs; those with the most values have the most cells."""
_ENOUGH_OF_EACH_CLASS = 100
_SAMPLE_STREAM, _HALF_STREAM = 2, 3  # random streams of a user seed


@dataclass(frozen=True)
class _Sample:
    """Rows that the pairs are searched on."""

    codes: np.ndarray
    """[N, F]"""
    label: np.ndarray
    is_first_half: np.ndarray
    """[N] bool."""

    @property
    def is_enough(self) -> bool:
        """Whether both halves have enough rows of both classes."""
        halves = (self.label[self.is_first_half], self.label[~self.is_first_half])
        return all(min(half.sum(), len(half) - half.sum()) >= _ENOUGH_OF_EACH_CLASS for half in halves)


def choose_encodings(source: Source, scan: Scan, config: PrepareConfig) -> dict[str, tuple[EncodingKind, ...]]:
    """The encodings for training rows, and prints them.

    Every categorical feature has its count and rate, but the user where folds are by user: no row of a fold has another
    one to be counted from. If the schema has an order of rows, every feature has those so far. Pairs are searched on
    the tuning part; without one, on a sample of all training rows, and then the choice has seen rows that folds report.
    """
    schema = source.schema
    of_users = schema.user if config.folds.is_by_user(schema.user) else None
    past = _BOTH_PAST if schema.encodings_past is not None else ()
    kinds_of = {name: (() if name == of_users else _BOTH) + past for name in schema.categorical}
    chosen = {name: kinds for name, kinds in kinds_of.items() if kinds}
    names = [name for name in schema.categorical if name not in schema.derived_categorical and "*" not in name]
    is_searched, where = _searched_rows(scan, config.seed)
    pairs: list[str] = []
    if len(names) > 1 and len(scan.label[is_searched]):
        sample = _read(source, scan, is_searched, names, config.seed)
        if sample.is_enough:
            kept = np.sort(np.argsort(-sample.codes.max(axis=0), kind="stable")[:_MAX_FEATURES])
            found = find_pairs(sample.codes[:, kept], sample.label, sample.is_first_half, _MAX_PAIRS)
            pairs = [f"{names[kept[pair.first]]}*{names[kept[pair.second]]}" for pair in found]
    rows = f"{int(is_searched.sum()):,} rows {where}"
    console.print(
        f"encodings: {len(chosen)} categorical features; of their pairs, searched on {rows}: "
        f"{', '.join(pairs) or 'none'}"
    )
    return chosen | dict.fromkeys(pairs, _RATE)


def _searched_rows(scan: Scan, seed: int) -> tuple[np.ndarray, str]:
    """[n] bool: the rows to search on, and what they are."""
    is_tuning = np.array([group.is_tuning for group in scan.groups], bool)[scan.group]
    is_train = (scan.split == PARTITIONS.index("train")) & (scan.label != NO_LABEL)
    where = "of the tuning part" if is_tuning.any() else "of all training rows, which folds report"
    is_candidate = is_train & is_tuning if is_tuning.any() else is_train
    share = _MAX_ROWS / max(1, int(is_candidate.sum()))
    return is_candidate & (as_fraction(mix(mix(scan.hashes, _SAMPLE_STREAM), seed)) < share), where


def _read(source: Source, scan: Scan, is_searched: np.ndarray, names: list[str], seed: int) -> _Sample:
    """Reads the categorical features of the searched rows; rows of a user are in one half."""
    parts: list[list[Codes]] = []
    n_done, n_train = 0, source.n_rows("train")
    with progress_line("searching pairs", n_train) as line:
        for block in source.blocks("train", names):
            rows = pa.array(np.flatnonzero(is_searched[n_done : n_done + block.table.num_rows]))
            table = block.table.take(rows)
            parts.append([_codes(table, name, source.schema) for name in names])
            n_done += block.table.num_rows
            line.advance(block.table.num_rows)
    joined = [join_codes([part[index] for part in parts]) for index in range(len(names))]
    code_NF = np.stack([codes.codes + 1 for codes in joined], axis=1)  # 0 is null
    rows_of = np.flatnonzero(is_searched)
    key = scan.hashes if scan.user is None else np.where(scan.user >= 0, scan.user.astype(np.uint64), scan.hashes)
    draw = as_fraction(mix(mix(key[rows_of], _HALF_STREAM), seed))
    return _Sample(code_NF, scan.label[rows_of].astype(np.int64), draw < 0.5)


def _codes(table: pa.Table, name: str, schema: Schema) -> Codes:
    return encode_values(table[name], f"column {name!r}", schema.form_of(name))
