"""Writes the retrieved candidates to a file for reranking."""

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
    """Writes the best items of each request to a parquet file.

    Columns: row_id, rank (from 1), item, score (the towers' logit).
    """
    scores, item_indices = index.search(user, min(n_candidates, len(catalog)))
    n, k = item_indices.shape
    is_found = item_indices.reshape(-1) >= 0
    ids = pc.cast(split.store.row_ids(requests(np.arange(n))), pa.string())
    table = pa.table(
        {
            "row_id": ids.take(pa.array(np.repeat(np.arange(n), k)[is_found])),
            "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), n)[is_found],
            "item": catalog.names.take(pa.array(item_indices.reshape(-1)[is_found])),
            "score": (scale * scores).reshape(-1)[is_found],
        }
    )
    pq.write_table(table, path, compression="zstd")
