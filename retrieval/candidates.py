"""Candidates: what was retrieved, as a file that ranking reads."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.data.rows import Rows
from recsys.data.split import Split
from retrieval.catalog import Catalog
from retrieval.index import ItemIndex

CANDIDATES_FILE = "candidates.parquet"


def write_candidates(
    path: Path,
    split: Split,
    requests: Rows,
    catalog: Catalog,
    index: ItemIndex,
    user: np.ndarray,
    n_candidates: int,
    scale: float,
) -> None:
    """candidates.parquet: row_id, rank (from 1), item, score (the towers' logit) of each request's best items."""
    scores, places = index.search(user, min(n_candidates, len(catalog)))
    n, k = places.shape
    is_found = places.reshape(-1) >= 0
    ids = pc.cast(split.store.row_ids(requests(np.arange(n))), pa.string())
    table = pa.table(
        {
            "row_id": ids.take(pa.array(np.repeat(np.arange(n), k)[is_found])),
            "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), n)[is_found],
            "item": catalog.names.take(pa.array(places.reshape(-1)[is_found])),
            "score": (scale * scores).reshape(-1)[is_found],
        }
    )
    pq.write_table(table, path, compression="zstd")
