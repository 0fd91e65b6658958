"""Two stages offline: items are retrieved for requests, ranked, and written as lists.

Shapes: n requests of a block, k candidates of a request, P pairs of a request and a candidate.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from pydantic import BaseModel

from pipelines.parts.retrieval_run import open_retriever
from pipelines.parts.run_data import ScoringRun
from ranking.rerank import ItemColumns
from ranking.scoring import score_blocks
from recsys.data.store import EncodedRows, RowStore
from recsys.errors import InputError
from recsys.evaluation.logits import probability
from recsys.runs.submission import Scale
from recsys.schema.resolved import Schema
from recsys.system.progress import console, progress_line
from retrieval.serving.retriever import Found, Requests

_BLOCK_PAIRS = 65_536
_N_TIMED = 64
"""Requests by which the time of a request is estimated."""


@dataclass(frozen=True)
class ListOptions:
    """How lists are made."""

    retrieval: Path
    """Folder of a finished retrieval run on the same prepared data."""
    top: int
    """Items of a list."""
    n_candidates: int
    """Retrieved items that are ranked."""
    exclude: str
    """See `Retriever.find`."""
    max_ms: float | None = None
    """Mean milliseconds that a request may take; None for any."""


class ListsSummary(BaseModel):
    """The JSON file beside the lists."""

    run: str
    retrieval: str
    scale: Scale
    n_requests: int
    n_rows: int
    top: int
    n_candidates: int
    ms_per_request: float
    """Mean milliseconds: retrieval and ranking, on all cores."""


@dataclass(frozen=True)
class _Pairs:
    """Candidates of some requests of a block."""

    found: Found
    request: np.ndarray
    """[P] positions of the requests in the block."""
    item: np.ndarray
    """[P] positions of the items in the retriever's names."""


class ListMaker:
    """Retrieves items for requests, and ranks them.

    Args:
        scoring: the run that ranks.
        test: files of requests, with the columns that both runs read, but for the item's.
        options: how lists are made.

    Raises:
        InputError: when the runs do not fit each other, or a file lacks a column.
    """

    def __init__(self, scoring: ScoringRun, test: list[Path], options: ListOptions) -> None:
        self._scorer, self._dataset, self._options = scoring.scorer, scoring.dataset, options
        self._retriever = open_retriever(options.retrieval, scoring.dataset.folder)
        if self._scorer.reads_retrieval_score:
            raise InputError(f"{scoring.folder} reads the scores of a retrieval run: give a run without them")
        self._columns = ItemColumns(self._dataset, self._scorer.categorical)
        self._features = _request_features(
            self._dataset.manifest.schema_, self._scorer.categorical, self._columns.names
        )
        names = self._dataset.store.item_names
        self._item_of_name = pc.index_in(self._retriever.names, value_set=names).to_numpy().astype(np.int64)
        self._test = test
        self.n_requests = self._open().n_rows
        self.n_candidates = min(options.n_candidates, len(self._retriever.names))
        if options.max_ms is not None:
            self.n_candidates = self._within(options.max_ms)

    def write(self, path: Path, names: tuple[str, str], scale: Scale) -> tuple[int, float]:
        """Writes a CSV file of lists: id, rank, item, score; returns its rows, and the milliseconds of a request.

        Args:
            path: the file.
            names: of the columns of the id and the score.
            scale: the scale of the score.
        """
        shift = self._scorer.log_pos_weight if scale == "balanced" else 0.0
        schema = pa.schema(
            [(names[0], pa.string()), ("rank", pa.int32()), ("item", pa.string()), (names[1], pa.float64())]
        )
        start, n_rows = time.perf_counter(), 0
        requests = self._open()
        with (
            pa_csv.CSVWriter(path, schema, write_options=pa_csv.WriteOptions(quoting_style="needed")) as csv,
            progress_line("requests", self.n_requests) as line,
        ):
            shown = 0
            blocks = self._pairs(self._retriever.find(requests, self.n_candidates, self._options.exclude))
            for pairs, logit in score_blocks(self._scorer, blocks, self._encoded):
                table = self._lists(pairs, logit, shift, schema)
                csv.write(table)
                n_rows += len(table)
                line.advance(requests.n_read - shown)
                shown = requests.n_read
        return n_rows, 1000 * (time.perf_counter() - start) / self.n_requests

    def _open(self) -> Requests:
        return self._retriever.open_requests(self._test, self._features)

    def _within(self, max_ms: float) -> int:
        """The number of candidates with which a request takes at most `max_ms`, by the first requests."""
        found = next(self._retriever.find(self._open(), self.n_candidates, self._options.exclude))
        taken = np.arange(min(_N_TIMED, len(found.ids)))
        store = RowStore.from_encoded(found.rows, self._dataset.manifest.schema_)
        rows = store.encoded(taken)
        few = Found(found.ids.take(pa.array(taken)), rows, found.scores[taken], found.items[taken])
        pairs = next(self._pairs(iter([few]), block_pairs=few.items.size), None)
        if pairs is None:  # all items are excluded
            return self.n_candidates
        self._scorer.natural_logit(self._encoded(pairs))  # the first call builds what the second one reuses
        start = time.perf_counter()
        self._retriever.search(rows, self.n_candidates)
        searched = time.perf_counter()
        self._scorer.natural_logit(self._encoded(pairs))
        retrieval_ms = 1000 * (searched - start) / len(taken)
        pair_ms = 1000 * (time.perf_counter() - searched) / len(pairs.item)
        fitting = int((max_ms - retrieval_ms) / pair_ms)
        if fitting < self._options.top:
            least = retrieval_ms + self._options.top * pair_ms
            raise InputError(f"--max-ms {max_ms:g}: a list of {self._options.top} takes {least:.3g} ms: raise it")
        n = min(fitting, self.n_candidates)
        console.print(f"{n:,} candidates: retrieval takes {retrieval_ms:.3g} ms, a candidate {pair_ms:.2g} ms")
        return n

    def _pairs(self, blocks: Iterator[Found], block_pairs: int = _BLOCK_PAIRS) -> Iterator[_Pairs]:
        for found in blocks:
            request, place = np.nonzero(found.items >= 0)
            item = found.items[request, place]
            n_requests = max(1, block_pairs // max(1, found.items.shape[1]))
            cuts = np.searchsorted(request, np.arange(n_requests, len(found.ids), n_requests))
            for part in np.split(np.arange(len(item)), cuts):
                if len(part):
                    yield _Pairs(found, request[part], item[part])

    def _encoded(self, pairs: _Pairs) -> EncodedRows:
        store = RowStore.from_encoded(pairs.found.rows, self._dataset.manifest.schema_)
        return self._columns.put(store.encoded(pairs.request), self._item_of_name[pairs.item])

    def _lists(self, pairs: _Pairs, logit: np.ndarray, shift: float, schema: pa.Schema) -> pa.Table:
        """The best items of each request."""
        order = np.lexsort((-logit, pairs.request))
        first = np.searchsorted(pairs.request, pairs.request[order])
        rank = np.arange(len(order)) - first
        kept, rank = order[rank < self._options.top], rank[rank < self._options.top]
        columns = [
            pairs.found.ids.take(pa.array(pairs.request[kept])),
            pa.array((rank + 1).astype(np.int32)),
            self._retriever.names.take(pa.array(pairs.item[kept])).cast(pa.string()),
            pa.array(probability(logit[kept] + shift)),
        ]
        return pa.table(columns, schema=schema)


def _request_features(schema: Schema, categorical: frozenset[str], items: frozenset[str]) -> list[str]:
    """The features of a request that a ranking run reads.

    Raises:
        InputError: for a number that is computed from an item's columns and is not a feature of the item.
    """
    own = {source for name in items for source in schema.crosses.get(name, (name,))}
    for name, formula in schema.formulas.items():
        if name not in items and own & set(formula.columns):
            raise InputError(
                f"schema.derived.{name} is computed from a column of the item: give a run without it, or, if it reads "
                "columns of the item alone, name it in schema.towers.item"
            )
    sequences = [*(s.name for s in schema.token_sequences), *(s.name for s in schema.column_sequences)]
    read = [*sorted(categorical), *schema.encodings, *schema.numeric_features, *sequences]
    return [name for name in dict.fromkeys(read) if name not in items]
