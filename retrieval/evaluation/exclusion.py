"""Items that are no candidates of a request: those of its history, or those that a table lists.

Shapes: I items of the catalog; n rows, b rows of a block.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy import sparse

from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.data.vocabulary import N_RESERVED, Vocabulary
from recsys.errors import InputError
from retrieval.catalog import Catalog
from retrieval.evaluation.history_baselines import Histories, item_histories
from retrieval.evaluation.ranks import Scores

Exclude = Literal["seen", "none", "table"]
"""Which items are excluded: those of the request's history, none, or those that a table of pairs lists."""


class Exclusion(Protocol):
    """Knows the items that are excluded for each request."""

    def matrix(self, rows: np.ndarray) -> sparse.csr_matrix:
        """Returns [b, I], nonzero for the items that are excluded for [b] rows."""


class ExcludedPairs:
    """The pairs of a parquet file: a value of a column of the requests, such as the user, and an item.

    Args:
        path: a parquet file with the column of the target item and one other column: the row id, or a categorical
            column, of which rare values are not told apart and have no pairs.
        split: provides the rows.
        vocabularies: the values of categorical columns.
        catalog: the items; others are left out.

    Raises:
        InputError: when the file is not readable, or its columns are others.
    """

    def __init__(self, path: Path, split: Split, vocabularies: Mapping[str, Vocabulary], catalog: Catalog) -> None:
        self._store, self._n_items = split.store, len(catalog)
        schema = split.store.schema
        target = str(schema.target_item)
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{path}: not a readable parquet file ({error}): pass the file of exclude_table"
            ) from error
        allowed = [*([schema.id] if schema.id else []), *(name for name in schema.categorical if name != target)]
        keys = [name for name in table.column_names if name in allowed]
        if target not in table.column_names or len(keys) != 1 or len(table.column_names) != 2:
            raise InputError(
                f"{path}: has the columns {', '.join(table.column_names)}, but needs {target} and one of "
                f"{', '.join(allowed)}: select these two"
            )
        self._key = keys[0]
        text = pc.cast(table[self._key].combine_chunks(), pa.string())
        item = pc.index_in(pc.cast(table[target].combine_chunks(), pa.string()), value_set=catalog.names)
        is_known = pc.and_(pc.is_valid(text), pc.is_valid(item))
        self._names = pc.unique(text.filter(is_known))
        key = pc.index_in(text.filter(is_known), value_set=self._names).to_numpy()
        items = item.filter(is_known).to_numpy()
        pairs = (np.ones(len(key), np.float32), (key, items))
        # the last row is for requests that the file does not list
        self._pairs = sparse.csr_matrix(pairs, shape=(len(self._names) + 1, self._n_items))

        self._index_of_code: np.ndarray | None = None
        if self._key != schema.id:
            places = pc.index_in(vocabularies[self._key].values, value_set=self._names)
            reserved = np.full(N_RESERVED, -1)
            self._index_of_code = np.concatenate([reserved, pc.fill_null(places, -1).to_numpy()])

    def matrix(self, rows: np.ndarray) -> sparse.csr_matrix:
        """See `Exclusion`."""
        if self._index_of_code is None:
            names = pc.cast(self._store.row_ids(rows), pa.string())
            return self._pairs[pc.fill_null(pc.index_in(names, value_set=self._names), -1).to_numpy()]
        codes = self._store.read_sparse(rows)[:, self._store.schema.categorical.index(self._key)]
        return self._pairs[self._index_of_code[codes]]


class WithoutExcluded:
    """Ranks the excluded items of each request last.

    Args:
        scores: scores all items for the requests.
        exclusion: knows the excluded items.
        requests: the rows of the requests.
    """

    def __init__(self, scores: Scores, exclusion: Exclusion, requests: Rows) -> None:
        self._scores, self._exclusion, self._requests = scores, exclusion, requests

    def __call__(self, requests: np.ndarray) -> np.ndarray:
        """Returns [b, I] scores of [b] request indices."""
        scores = self._scores(requests).astype(np.float32)
        scores[self._exclusion.matrix(self._requests(requests)).nonzero()] = -np.inf
        return scores


def open_exclusion(
    exclude: Exclude, table: Path | None, split: Split, vocabularies: Mapping[str, Vocabulary], catalog: Catalog
) -> Exclusion | None:
    """Returns what is excluded; None if nothing is, or if the towers read no history of target items.

    Raises:
        InputError: when the table is missing or has other columns.
    """
    if exclude == "none":
        return None
    if exclude == "table":
        if table is None:
            raise InputError("exclude=table needs exclude_table: name a parquet file of pairs to exclude")
        return ExcludedPairs(table, split, vocabularies, catalog)
    return Histories(split, catalog) if item_histories(split.schema) else None
