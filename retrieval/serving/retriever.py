"""Retrieves items for any requests with the towers and the index of a finished run.

Shapes: n rows of a block, I items, k items of a request.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from scipy import sparse

from recsys.data.dataset import PreparedDataset
from recsys.data.split import Split
from recsys.data.store import EncodedRows, RowStore
from recsys.data.vocabulary import N_RESERVED
from recsys.errors import InputError
from recsys.nn.precision import autocast
from recsys.system.threads import in_threads
from recsys.system.world import World
from retrieval.candidates import candidates_table
from retrieval.catalog import item_batch
from retrieval.config import IndexConfig
from retrieval.evaluation.exclusion import PairTable
from retrieval.fit import Towers
from retrieval.index import ItemIndex, build_index
from retrieval.serving.histories import LatestHistories
from retrieval.serving.raw_rows import RawRows, TowerFiles
from retrieval.serving.search import ItemSearch

SEEN, NONE = "seen", "none"
_BATCH_STEPS = 100_000
"""Steps of histories that are encoded at once."""
_BLOCK_REQUESTS = 4096
"""Requests whose candidates are found at once."""


@dataclass(frozen=True)
class Found:
    """The candidates of a block of requests."""

    ids: pa.Array
    """[n] ids of the requests."""
    rows: EncodedRows
    """The requests."""
    scores: np.ndarray
    """[n, k] logits of the towers, in falling order."""
    items: np.ndarray
    """[n, k] positions of the items in the retriever's names; -1 after the last one."""


class Retriever:
    """Retrieves the best items of requests.

    Args:
        dataset: the data set of the run.
        split: encodes rows as the towers were trained on them.
        towers: the trained towers.
        index: the vectors of the items.
        names: [I] the items.
        world: the device.
    """

    def __init__(
        self, dataset: PreparedDataset, split: Split, towers: Towers, index: ItemIndex, names: pa.Array, world: World
    ) -> None:
        self._dataset, self._split, self._towers, self._world = dataset, split, towers, world
        self._schema, self._model = dataset.manifest.schema_, towers.model
        self._model.eval()
        self._set_items(index, names)

    def _set_items(self, index: ItemIndex, names: pa.Array) -> None:
        self._search, self.names = ItemSearch(index), names
        values = self._dataset.vocabularies[str(self._schema.target_item)].values
        places = pc.fill_null(pc.index_in(values, value_set=names), -1).to_numpy()
        self._item_of_code = np.concatenate([np.full(N_RESERVED, -1), places])

    def use_items(self, path: Path, config: IndexConfig, seed: int) -> None:
        """Retrieves the items of a file from now on: their vectors are computed from the columns of the item tower.

        Raises:
            InputError: when the file lacks a column, or has an item twice or a row without one.
        """
        target = str(self._schema.target_item)
        files = TowerFiles(self._dataset, [path], self._schema.towers["item"])
        names, vectors = [], []
        for rows in files.blocks():
            assert rows.encoded.items is not None
            codes = rows.encoded.items
            if np.any(codes.codes < 0):
                raise InputError(f"{path}: column {target!r} has nulls: every row needs its item")
            names.append(codes.values.take(pa.array(codes.codes)))
            vectors.append(self._item_vectors(rows.encoded))
        names = pa.chunked_array(names, pa.string()).combine_chunks()
        counts = pc.value_counts(names)
        if len(counts) < len(names):
            repeated = counts.field(0)[int(pc.index(pc.greater(counts.field(1), 1), True).as_py())]
            raise InputError(f"{path}: column {target!r} has {repeated} more than once: give each item one row")
        self._set_items(build_index(np.concatenate(vectors), config, seed), names)

    @torch.no_grad()
    def _item_vectors(self, rows: EncodedRows) -> np.ndarray:
        split = replace(self._split, store=RowStore.from_encoded(rows, self._schema))
        batch = item_batch(split, np.arange(len(rows.sparse)), self._model.sequences, self._model.item_sequences)
        with autocast(self._world.device, self._towers.precision):
            return self._model.item_vectors(batch.to(self._world.device)).float().cpu().numpy()

    def open_requests(self, paths: list[Path], features: Collection[str] = ()) -> "Requests":
        """Opens files of requests; see `Requests`.

        Args:
            paths: parquet or CSV files.
            features: features to read besides those of the towers user and context.
        """
        return Requests(self._dataset, paths, features)

    def open_exclusion(self, exclude: str, requests: "Requests") -> PairTable | None:
        """Reads the pairs of a table; None for `seen` and `none`.

        Raises:
            InputError: when the table is not readable, or its columns are not those of the requests.
        """
        if exclude in (SEEN, NONE):
            return None
        target = str(self._schema.target_item)
        keys = [name for name in requests.files.names if name != target]
        return PairTable(Path(exclude), target, keys, self.names)

    def retrieve(self, requests: "Requests", k: int, exclude: str = NONE) -> Iterator[pa.Table]:
        """Yields the candidates of the requests block by block: row_id, rank, item, score. See `find`."""
        for found in self.find(requests, k, exclude):
            yield candidates_table(found.ids, self.names, found.scores, found.items)

    def find(self, requests: "Requests", k: int, exclude: str = NONE) -> Iterator[Found]:
        """Yields the candidates of the requests block by block; each core has another block.

        Args:
            requests: the requests.
            k: items of a request.
            exclude: seen: no items of the request's history; none; or the path of a table of pairs, see `PairTable`.

        Raises:
            InputError: as `open_exclusion`; when seen is asked for and the towers read no history of items.
        """
        if exclude == SEEN and not requests.item_sequences:
            raise InputError("--exclude seen: the towers read no history of items: pass none, or a table of pairs")
        pairs = self.open_exclusion(exclude, requests)

        def candidates(block: tuple[pa.Array, RawRows]) -> Found:
            ids, rows = block
            excluded = None
            if exclude == SEEN:
                excluded = self._seen(rows.encoded, requests.item_sequences)
            elif pairs is not None:
                excluded = pairs.at(pairs.place(pc.cast(rows.table[pairs.key].combine_chunks(), pa.string())))
            scores, items = self.search(rows.encoded, k, excluded)
            return Found(ids, rows.encoded, scores, items)

        blocks = requests.blocks(None if pairs is None else pairs.key)
        yield candidates(next(blocks))  # not in a thread: TorchRec finishes building a model in its first forward pass
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for _, found in in_threads(candidates, blocks):
                yield found
        finally:
            torch.set_num_threads(n_threads)

    def search(
        self, rows: EncodedRows, k: int, excluded: sparse.csr_matrix | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the scores and the items of [n] requests, see `Found`.

        Args:
            rows: the requests.
            k: items of a request.
            excluded: [n, I], nonzero for the items that are left out; None for none.
        """
        scores, items = self._search(self.request_vectors(rows), min(k, len(self.names)), excluded)
        return self._towers.scale * scores, items

    @torch.no_grad()
    def request_vectors(self, rows: EncodedRows) -> np.ndarray:
        """Returns the [n, d] vectors of requests; those of similar length are encoded together."""
        n_steps = rows.sequence_lengths.max(axis=1, initial=1).astype(np.int64) + 1
        order, vectors = np.argsort(n_steps, kind="stable"), np.empty((len(n_steps), self._model.width), np.float32)
        split = replace(self._split, store=RowStore.from_encoded(rows, self._schema))
        group = np.cumsum(n_steps[order]) // _BATCH_STEPS
        for places in np.split(order, np.flatnonzero(np.diff(group)) + 1):
            batch = split.batch(places, self._model.sequences).to(self._world.device)
            with autocast(self._world.device, self._towers.precision):
                vectors[places] = self._model.user_vectors(batch, len(batch)).float().cpu().numpy()
        return vectors

    def _seen(self, rows: EncodedRows, sequences: tuple[str, ...]) -> sparse.csr_matrix:
        """Returns [n, I], nonzero for the items of the histories."""
        n, row, item = len(rows.sparse), [], []
        for name in sequences:
            offsets, codes = rows.tokens[name]
            items = self._item_of_code[codes]
            row.append(np.repeat(np.arange(n), np.diff(offsets))[items >= 0])
            item.append(items[items >= 0])
        places = (np.concatenate(row), np.concatenate(item))
        return sparse.csr_matrix((np.ones(len(places[0]), np.float32), places), shape=(n, len(self.names)))


class Requests:
    """Files of requests, with the columns of the towers user and context.

    A history that the data set built from its log is a list column with the name of the sequence, its earliest event
    first. Without this column, or where it is null, a request has the latest history of its key in the data set.

    Args:
        dataset: the data set of the run.
        paths: parquet or CSV files.
        others: features to read besides those of the towers.

    Raises:
        InputError: when a file lacks a column.
    """

    def __init__(self, dataset: PreparedDataset, paths: list[Path], others: Collection[str] = ()) -> None:
        schema = dataset.manifest.schema_
        features = {*schema.towers.get("user", ()), *schema.towers.get("context", ()), *others}
        logs = {name: log for name, log in schema.logs.items() if name in features}
        keys = {log.key for log in logs.values() if log.key in schema.categorical}
        self.files = TowerFiles(dataset, paths, features | keys, [*logs, *(keys - features)])
        self.item_sequences = tuple(
            s.name for s in schema.token_sequences if s.name in features and s.vocabulary == schema.target_item
        )
        self._id = schema.id if schema.id in self.files.names else None
        self.n_read = 0
        """Requests that were read so far."""
        self._latest: dict[str, LatestHistories] = {}
        for name, log in logs.items():
            can_look_up = log.where is None and self.files.has(log.key) and log.item in schema.categorical
            if can_look_up:
                self._latest[name] = LatestHistories(dataset, name)
            elif not self.files.has(name):
                wanted = f"a list column {name!r} of {log.item}"
                other = f", or the column {log.key!r}" if log.where is None and log.key in schema.categorical else ""
                raise InputError(f"{paths[0]}: has no history: add {wanted}{other}")

    @property
    def n_rows(self) -> int:
        """The number of requests."""
        return self.files.n_rows

    def blocks(self, key: str | None = None) -> Iterator[tuple[pa.Array, RawRows]]:
        """Yields [n] ids as text, or row numbers, and rows with the column `key` as it is."""
        lists = [name for name in self._latest if self.files.has(name)]
        plain = list(dict.fromkeys([*lists, *([self._id] if self._id else []), *([key] if key else [])]))
        n_done = 0
        for rows in self.files.blocks(plain):
            n, encoded = len(rows.encoded.sparse), rows.encoded
            for name, latest in self._latest.items():
                is_filled = np.asarray(pc.is_null(rows.table[name])) if name in lists else np.ones(n, bool)
                if is_filled.any():
                    encoded = latest.fill(encoded, is_filled)
            ids: Any = rows.table[self._id].combine_chunks() if self._id else pa.array(np.arange(n_done, n_done + n))
            ids = pc.cast(ids, pa.string())
            for start in range(0, n, _BLOCK_REQUESTS):
                part = slice(start, min(n, start + _BLOCK_REQUESTS))
                taken = np.arange(part.start, part.stop)
                yield ids.take(pa.array(taken)), RawRows(rows.table.take(pa.array(taken)), rows_at(encoded, part))
                self.n_read += len(taken)
            n_done += n


def rows_at(rows: EncodedRows, part: slice) -> EncodedRows:
    """Returns consecutive rows."""
    tokens = {}
    for name, (offsets, codes) in rows.tokens.items():
        bounds = offsets[part.start : part.stop + 1]
        tokens[name] = bounds - bounds[0], codes[bounds[0] : bounds[-1]]
    return EncodedRows(rows.sparse[part], rows.measured[part], rows.sequence_lengths[part], tokens)
