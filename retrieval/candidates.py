"""Writes the retrieved candidates to a file for reranking, and the ranks of the requests' items."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.errors import InputError
from retrieval.catalog import Catalog
from retrieval.evaluation.exclusion import Exclusion
from retrieval.evaluation.ranks import Ranking
from retrieval.index import ItemIndex
from retrieval.serving.search import ItemSearch

CANDIDATES_FILE, RANKS_FILE = "candidates.parquet", "ranks.parquet"


_ROW_ID, _USER = "row_id", "user"


def write_ranks(path: Path, split: Split, requests: Rows, rankings: Mapping[str, Ranking]) -> None:
    """Writes the rank of each request's item, from 1: row_id, a column for each ranking, and user if users are known.

    The file is parquet.
    """
    rows = requests.numbers()
    ranks = {name: ranking.rank.astype(np.int32) for name, ranking in rankings.items()}
    user = split.store.users(rows)
    columns = {_ROW_ID: pc.cast(split.store.row_ids(rows), pa.string()), **ranks}
    pq.write_table(pa.table(columns if user is None else columns | {_USER: user}), path, compression="zstd")


@dataclass(frozen=True)
class Ranks:
    """The ranks of n requests' items."""

    by_ranking: dict[str, np.ndarray]
    """By name of the ranking: [n] int32, from 1."""
    user: np.ndarray | None
    """[n] int32 users of the requests, -1 for null; None if users are unknown."""


def read_ranks(path: Path) -> Ranks:
    """Reads the file of `write_ranks`.

    Raises:
        InputError: if the file is missing or damaged.
    """
    try:
        columns = {name: column.to_numpy() for name, column in zip(*_read(path), strict=True)}
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not readable ({error}): run the retrieval again with another --out") from error
    user = columns.pop(_USER, None)
    return Ranks({name: ranks for name, ranks in columns.items() if name != _ROW_ID}, user)


def _read(path: Path) -> tuple[list[str], list[pa.ChunkedArray]]:
    table = pq.read_table(path)
    return table.column_names, table.columns


def write_candidates(
    path: Path,
    split: Split,
    requests: Rows,
    catalog: Catalog,
    index: ItemIndex,
    user: np.ndarray,
    n_candidates: int,
    scale: float,
    exclusion: Exclusion | None = None,
) -> None:
    """Writes the best items of each request to a parquet file.

    Columns: row_id, rank (from 1), item, score (the towers' logit).

    Args:
        path: the file to write.
        split: provides the row ids.
        requests: the rows of the requests.
        catalog: the items.
        index: the items' vectors.
        user: [n, d] vectors of the requests.
        n_candidates: items of a request.
        scale: the factor from inner products to logits.
        exclusion: items that are no candidates; None for none.
    """
    rows = requests.numbers()
    excluded = exclusion.matrix(rows) if exclusion is not None else None
    scores, items = ItemSearch(index)(user, min(n_candidates, len(catalog)), excluded)
    ids = pc.cast(split.store.row_ids(rows), pa.string())
    pq.write_table(candidates_table(ids, catalog.names, scale * scores, items), path, compression="zstd")


def candidates_table(ids: pa.Array, names: pa.Array, scores: np.ndarray, items: np.ndarray) -> pa.Table:
    """Returns one row for each candidate: row_id, rank, item, score.

    Args:
        ids: [n] ids of the requests.
        names: the items.
        scores: [n, k] scores in falling order.
        items: [n, k] indices of the items; -1 after the last one.
    """
    is_kept = items >= 0
    rank = np.broadcast_to(np.arange(1, items.shape[1] + 1, dtype=np.int32), items.shape)
    return pa.table(
        {
            "row_id": ids.take(pa.array(np.nonzero(is_kept)[0])),
            "rank": rank[is_kept],
            "item": names.take(pa.array(items[is_kept])),
            "score": scores[is_kept],
        }
    )
