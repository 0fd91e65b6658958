"""Reranking: the items that retrieval found for each request, scored by a ranking model as if they had been shown."""

from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class _AdColumns:
    """Which columns of encoded rows are the item's."""

    sparse: list[int]
    measured: list[int]
    tokens: list[str]


class Reranker:
    """Scores candidates by putting an item's columns into a request's row.

    Args:
        scorer: of encoded rows.
        dataset: what the scorer's run was trained on; it holds the requests, and rows that show the candidates.

    Raises:
        InputError: when the schema does not say which columns are the item's, or mixes them with others in a
            cross that the scorer reads.
    """

    def __init__(self, scorer: Scorer, dataset: PreparedDataset) -> None:
        self._scorer, self._dataset = scorer, dataset
        self._of_item = _item_columns(dataset.manifest.schema_, scorer.categorical)
        self._row_of_item = _first_rows(dataset)
        self._row_ids: pa.Array = pc.cast(dataset.store.row_ids(np.arange(dataset.n_rows)), pa.string())

    def rerank(self, candidates: Path, out: Path) -> None:
        """Writes the candidates again with the column `logit`, the natural logit of a click.

        Args:
            candidates: a parquet file of row_id, rank, item and score.
            out: the file to write.

        Raises:
            InputError: when the file is broken, or names a request or an item that the data set does not have.
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
            raise InputError(f"{path} is not a file of candidates ({error}): run the retrieval again") from error

    def _pairs(self, table: pa.Table, path: Path) -> EncodedRows:
        """The requests' rows with the candidates' item columns."""
        dataset, of_item = self._dataset, self._of_item
        requests, items = table["row_id"].combine_chunks(), table["item"].combine_chunks()
        request = pc.index_in(requests, value_set=self._row_ids)
        item = pc.index_in(items, value_set=dataset.store.item_names)
        for found, values, what in ((request, requests, "request"), (item, items, "item")):
            if found.null_count:
                unknown = values.filter(pc.is_null(found))[0]
                raise InputError(
                    f"{path} names a {what} {unknown} that {dataset.folder} does not have: it is of other data"
                )
        rows, items = request.to_numpy().astype(np.int64), self._row_of_item[item.to_numpy()]
        sparse, measured = dataset.store.read_sparse(rows).copy(), dataset.store.read_measured(rows).copy()
        if of_item.sparse:
            sparse[:, of_item.sparse] = dataset.store.read_sparse(items)[:, of_item.sparse]
        if of_item.measured:
            measured[:, of_item.measured] = dataset.store.read_measured(items)[:, of_item.measured]
        lengths, tokens = [], {}
        for sequence in dataset.manifest.schema_.token_sequences:
            source = items if sequence.name in of_item.tokens else rows
            codes, n_tokens = dataset.store.read_tokens(sequence.name, source)
            full = dataset.store.sequence_lengths(sequence.name, source)
            tokens[sequence.name] = offsets_of(n_tokens), codes
            lengths.append(full)
        n = len(rows)
        return EncodedRows(
            sparse=sparse,
            measured=measured,
            sequence_lengths=np.stack(lengths, axis=1) if lengths else np.zeros((n, 0), np.int32),
            tokens=tokens,
        )


def _item_columns(schema: Schema, read: frozenset[str]) -> _AdColumns:
    names = set(schema.towers.get("item", ()))
    if schema.target_item is None or schema.target_item not in names:
        raise InputError("reranking needs schema.target_item and the item's columns in schema.towers.item: name them")
    for cross, columns in schema.crosses.items():
        if cross not in read:
            continue
        if names & set(columns) and not names.issuperset(columns):
            raise InputError(f"reranking cannot put an item into the cross {cross!r} of the item's and other columns")
        if names.issuperset(columns):
            names.add(cross)
    steps = [c for s in schema.column_sequences if s.name in names for c in s.columns]
    return _AdColumns(
        sparse=[index for index, name in enumerate(schema.categorical) if name in names],
        measured=[index for index, name in enumerate(schema.measured) if name in names or name in steps],
        tokens=[s.name for s in schema.token_sequences if s.name in names],
    )


def _first_rows(dataset: PreparedDataset) -> np.ndarray:
    """[items] int64: the first row that shows each item."""
    first = np.full(len(dataset.store.item_names), np.iinfo(np.int64).max)
    for rows in AllRows(dataset.n_rows).blocks():
        items = dataset.store.items(rows)
        np.minimum.at(first, items[items >= 0], rows[items >= 0])
    return first
