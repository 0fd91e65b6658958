"""Reads raw files that have the columns of some towers only: requests without an item, or items without a request.

Shapes: n rows of a block.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys.data.dataset import PreparedDataset
from recsys.data.store import EncodedRows
from recsys.data.vocabulary import MISSING_ID
from recsys.errors import InputError
from recsys.prepare.digest import columns_to_read
from recsys.prepare.encode import encode_block
from recsys.raw.files.find import find_files
from recsys.raw.files.open import open_raw
from recsys.raw.opening import open_rows_to_score
from recsys.schema.resolved import Schema
from recsys.system.threads import in_threads


@dataclass(frozen=True)
class RawRows:
    """n rows of a file."""

    table: pa.Table
    """The columns that were asked for as they are, such as the id."""
    encoded: EncodedRows
    """In the form of the data set; features that the file lacks are missing, and their sequences empty."""


class TowerFiles:
    """Parquet or CSV files with the columns of some features.

    Args:
        dataset: the data set whose vocabularies encode the rows.
        paths: files, folders and patterns.
        features: names of the features to read: categorical, numeric, vectors, sequences. A sequence that the data set
            built from its log is a list column here, with the earliest event first.
        optional: those of the features that the files may lack.

    Raises:
        InputError: if a file lacks a column, or a column has another kind than in the training files.
    """

    def __init__(
        self, dataset: PreparedDataset, paths: list[Path], features: Collection[str], optional: Collection[str] = ()
    ) -> None:
        names = [str(path.absolute()) for path in paths]
        first = open_raw(find_files(names, paths[0].parent)[0])
        self.names = tuple(first.names)
        missing = {name for name in optional if name not in self.names}
        self.schema = _reduced(dataset.manifest.schema_, set(features) - missing, self.names)
        self._stored, self._dataset = dataset.manifest.schema_, dataset
        config = dataset.manifest.schema_config
        sides = {k: side for k, side in config.side_tables.items() if k in self.schema.side_tables}
        config = config.model_copy(update={"side_tables": sides})
        lists = {sequence.name for sequence in self.schema.token_sequences if sequence.name in self._stored.logs}
        kinds = {name: kind for name, kind in dataset.manifest.kinds.items() if name not in lists}
        self._source = open_rows_to_score(config, self.schema, kinds, names, paths[0].parent)
        self.n_rows = self._source.n_rows("test")

    def has(self, feature: str) -> bool:
        """Whether the files have a feature."""
        schema = self.schema
        tokens = [sequence.name for sequence in schema.token_sequences]
        return feature in (*schema.categorical, *schema.numeric_features, *tokens)

    def blocks(self, plain: Collection[str] = ()) -> Iterator[RawRows]:
        """Yields the rows in file order.

        Args:
            plain: columns to return as they are too.
        """
        schema, vocabularies = self._source.schema, self._dataset.vocabularies
        columns = list(dict.fromkeys([*columns_to_read(schema), *plain]))
        blocks = self._source.blocks("test", columns)
        for block, rows in in_threads(lambda block: encode_block(block, schema, vocabularies), blocks):
            yield RawRows(block.table.select(list(plain)), self._expanded(rows, block.table.num_rows))

    def _expanded(self, rows: EncodedRows, n: int) -> EncodedRows:
        """Returns [n] rows with all features of the data set."""
        stored, mine = self._stored, self.schema
        sparse = np.full((n, len(stored.categorical)), MISSING_ID, np.int32)
        sparse[:, [stored.categorical.index(name) for name in mine.categorical]] = rows.sparse
        measured = np.full((n, len(stored.measured)), np.nan, np.float32)
        measured[:, [stored.measured.index(name) for name in mine.measured]] = rows.measured
        empty, own = np.zeros((n + 1,), np.int64), [sequence.name for sequence in mine.token_sequences]
        tokens = {s.name: rows.tokens.get(s.name, (empty, np.zeros(0, np.int32))) for s in stored.token_sequences}
        lengths = [
            rows.sequence_lengths[:, own.index(s.name)] if s.name in own else np.zeros(n, np.int32)
            for s in stored.token_sequences
        ]
        lengths_nS = np.stack(lengths, axis=1) if lengths else np.zeros((n, 0), np.int32)
        return EncodedRows(sparse, measured, lengths_nS, tokens, rows.items)


def _reduced(schema: Schema, features: set[str], columns: Collection[str]) -> Schema:
    """Returns the schema of the named features alone, in files with some columns; sequences of the log are lists."""
    kept = [s for s in schema.token_sequences if s.name in features]
    statistics = tuple(s for s in schema.statistics if s.sequence in {sequence.name for sequence in kept})
    derived = {name for s in schema.statistics for name in (*s.numeric, *s.ends)}
    of_kept = {name for s in statistics for name in (*s.numeric, *s.ends)}
    if unknown := sorted((features & derived) - of_kept):
        raise InputError(f"{unknown[0]!r} is computed from a sequence of another tower: remove it from schema.towers")
    vectors = tuple(vector for vector in schema.vectors if vector.name in features)
    of_kept |= {column for vector in vectors for column in vector.columns}
    formulas = {name: formula for name, formula in schema.formulas.items() if name in features}
    names = (features - derived) | of_kept
    return schema.model_copy(
        update={
            "categorical": tuple(name for name in schema.categorical if name in names),
            "numeric": tuple(name for name in schema.numeric if name in names),
            "token_sequences": tuple(kept),
            "column_sequences": tuple(s for s in schema.column_sequences if s.name in features),
            "crosses": {name: members for name, members in schema.crosses.items() if name in names},
            "statistics": statistics,
            "formulas": formulas,
            "vectors": vectors,
            "logs": {},
            "target_item": schema.target_item if schema.target_item in names else None,
            "side_tables": {name: t for name, t in schema.side_tables.items() if set(t.keys) <= set(columns)},
        }
    )
