"""Reranking: scores each request's retrieved candidates with a ranking model."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ranking.scoring import Scorer, score_blocks
from recsys.data.dataset import PreparedDataset
from recsys.data.jagged import offsets_of
from recsys.data.rows import AllRows
from recsys.data.store import EncodedRows
from recsys.errors import InputError
from recsys.schema.resolved import Schema
from recsys.system.progress import progress_line

_BLOCK_PAIRS = 65_536
_COLUMNS = {"row_id": pa.string(), "rank": pa.int32(), "item": pa.string(), "score": pa.float32()}


class ItemColumns:
    """Replaces the item's columns of encoded rows with those of other items, as they are in an item's first row.

    Args:
        dataset: the data set of the rows and the items.
        features: the categorical features that are read.

    Raises:
        InputError: when the schema does not define the item's columns, or a feature is a cross of item columns and
            other columns.
    """

    def __init__(self, dataset: PreparedDataset, features: frozenset[str]) -> None:
        schema = dataset.manifest.schema_
        self.names = _item_features(schema, features)
        self._sparse = [index for index, name in enumerate(schema.categorical) if name in self.names]
        columns = schema.measured_of(self.names)
        self._measured = [index for index, name in enumerate(schema.measured) if name in columns]
        self._dataset, self._row_of_item = dataset, _first_rows(dataset)

    def put(self, rows: EncodedRows, items: np.ndarray) -> EncodedRows:
        """Returns copies of [n] rows with the columns of [n] items, by their positions in `store.item_names`."""
        store, schema, item_rows = self._dataset.store, self._dataset.manifest.schema_, self._row_of_item[items]
        sparse, measured = rows.sparse.copy(), rows.measured.copy()
        if self._sparse:
            sparse[:, self._sparse] = store.read_sparse(item_rows)[:, self._sparse]
        if self._measured:
            measured[:, self._measured] = store.read_measured(item_rows)[:, self._measured]
        tokens, lengths = dict(rows.tokens), rows.sequence_lengths.copy()
        for index, sequence in enumerate(schema.token_sequences):
            if sequence.name in self.names:
                codes, n_tokens = store.read_tokens(sequence.name, item_rows)
                tokens[sequence.name] = offsets_of(n_tokens), codes
                lengths[:, index] = store.sequence_lengths(sequence.name, item_rows)
        return EncodedRows(sparse=sparse, measured=measured, sequence_lengths=lengths, tokens=tokens)


class Reranker:
    """Scores candidates: replaces the item columns of a request's row with those of the candidate.

    Args:
        scorer: scores encoded rows.
        dataset: the data set of the scorer's run; it contains the requests and a row of each candidate.

    Raises:
        InputError: when the schema does not define the item's columns, or the scorer reads a cross of item columns and
            other columns.
    """

    def __init__(self, scorer: Scorer, dataset: PreparedDataset) -> None:
        self._scorer, self._dataset = scorer, dataset
        self._item_columns = ItemColumns(dataset, scorer.categorical)
        self._row_ids: pa.Array = pc.cast(dataset.store.row_ids(np.arange(dataset.n_rows)), pa.string())

    def rerank(self, candidates: Path, out: Path) -> None:
        """Writes a copy of the candidates with the column `logit`, the natural logit of a click.

        Args:
            candidates: a parquet file with the columns row_id, rank, item and score.
            out: the file to write.

        Raises:
            InputError: when the file is not readable, or the data set does not contain one of its requests or items.
        """
        schema = pa.schema([*[pa.field(*column) for column in _COLUMNS.items()], pa.field("logit", pa.float32())])
        with pq.ParquetWriter(out, schema, compression="zstd") as writer:
            blocks = self._blocks(candidates)
            for table, logit in score_blocks(self._scorer, blocks, lambda table: self._pairs(table, candidates)):
                writer.write_table(pa.table([*table.columns, pa.array(logit.astype(np.float32))], schema=schema))

    def _blocks(self, path: Path) -> Iterator[pa.Table]:
        try:
            file = pq.ParquetFile(path)
            with progress_line("reranking", file.metadata.num_rows, unit="pairs") as line:
                for batch in file.iter_batches(_BLOCK_PAIRS, columns=list(_COLUMNS)):
                    table = pa.Table.from_batches([batch]).cast(pa.schema(list(_COLUMNS.items()))).combine_chunks()
                    yield table
                    line.advance(len(table))
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} is not a candidates file ({error}): run pipelines.retrieval again") from error

    def _pairs(self, table: pa.Table, path: Path) -> EncodedRows:
        """Encodes the (request, candidate) pairs: the requests' rows with the candidates' item columns."""
        dataset = self._dataset
        row_ids, item_names = table["row_id"].combine_chunks(), table["item"].combine_chunks()
        request_index = pc.index_in(row_ids, value_set=self._row_ids)
        item_index = pc.index_in(item_names, value_set=dataset.store.item_names)
        for index, values, kind in ((request_index, row_ids, "request"), (item_index, item_names, "item")):
            if index.null_count:
                unknown = values.filter(pc.is_null(index))[0]
                raise InputError(
                    f"{path}: {dataset.folder} has no {kind} {unknown}: give candidates of the same data set"
                )
        rows = dataset.store.encoded(request_index.to_numpy().astype(np.int64))
        return self._item_columns.put(rows, item_index.to_numpy())


def _item_features(schema: Schema, features: frozenset[str]) -> frozenset[str]:
    """The features that are computed from the item's columns alone."""
    names = set(schema.towers.get("item", ()))
    if schema.target_item is None or schema.target_item not in names:
        raise InputError("reranking needs schema.target_item and the item's columns in schema.towers.item: set both")
    for cross, columns in schema.crosses.items():
        if cross not in features and cross not in schema.encodings:
            continue
        if names & set(columns) and not names.issuperset(columns):
            raise InputError(
                f"reranking cannot compute the cross {cross!r} of item columns and other columns: give a run without it"
            )
        if names.issuperset(columns):
            names.add(cross)
    return frozenset(names)


def _first_rows(dataset: PreparedDataset) -> np.ndarray:
    """Returns [items] int64: the first row of each item."""
    first = np.full(len(dataset.store.item_names), np.iinfo(np.int64).max)
    for rows in AllRows(dataset.n_rows).blocks():
        items = dataset.store.items(rows)
        np.minimum.at(first, items[items >= 0], rows[items >= 0])
    return first
