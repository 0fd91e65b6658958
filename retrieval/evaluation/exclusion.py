"""Items that are no candidates of a request: those of its history, or those that a table lists.

Shapes: I items of the catalog; n rows, b rows of a block.
"""

from collections.abc import Mapping, Sequence
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


class PairTable:
    """The pairs of a parquet file: a value of a column of the requests, such as the user, and an item.

    Args:
        path: the file, with the column of the target item and one other column.
        target: name of the target item's column.
        keys: the columns that the other column may be.
        items: the items; others are left out.

    Raises:
        InputError: when the file is not readable, or its columns are others.
    """

    def __init__(self, path: Path, target: str, keys: Sequence[str], items: pa.Array) -> None:
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{path}: not a readable parquet file ({error}): name a file of pairs to exclude"
            ) from error
        others = [name for name in table.column_names if name != target]
        if target not in table.column_names or len(others) != 1 or others[0] not in keys:
            raise InputError(
                f"{path}: has the columns {', '.join(table.column_names)}, but needs {target} and one of "
                f"{', '.join(keys)}: select these two"
            )
        self.key = others[0]
        text = pc.cast(table[self.key].combine_chunks(), pa.string())
        item = pc.index_in(pc.cast(table[target].combine_chunks(), pa.string()), value_set=items)
        is_known = pc.and_(pc.is_valid(text), pc.is_valid(item))
        self._values = pc.unique(text.filter(is_known))
        value = pc.index_in(text.filter(is_known), value_set=self._values).to_numpy()
        pairs = (np.ones(len(value), np.float32), (value, item.filter(is_known).to_numpy()))
        # the last row is for values that the file does not list
        self._pairs = sparse.csr_matrix(pairs, shape=(len(self._values) + 1, len(items)))

    def place(self, values: pa.Array) -> np.ndarray:
        """Returns the [n] rows of `at` of values as text; -1 for those that the file does not list."""
        return np.asarray(pc.fill_null(pc.index_in(values, value_set=self._values), -1))

    def at(self, places: np.ndarray) -> sparse.csr_matrix:
        """Returns [n, I], nonzero for the items of the pairs."""
        return self._pairs[places]


class ExcludedPairs:
    """The pairs of a parquet file for rows of a store; rare values of a column are not told apart and have no pairs.

    Args:
        path: see `PairTable`; the other column is that of row ids, or a categorical column.
        split: provides the rows.
        vocabularies: the values of categorical columns.
        catalog: the items.

    Raises:
        InputError: as `PairTable`.
    """

    def __init__(self, path: Path, split: Split, vocabularies: Mapping[str, Vocabulary], catalog: Catalog) -> None:
        self._store, schema = split.store, split.store.schema
        target = str(schema.target_item)
        keys = [*([schema.id] if schema.id else []), *(name for name in schema.categorical if name != target)]
        self._pairs = PairTable(path, target, keys, catalog.names)
        self._place_of_code: np.ndarray | None = None
        if self._pairs.key != schema.id:
            places = self._pairs.place(vocabularies[self._pairs.key].values)
            self._place_of_code = np.concatenate([np.full(N_RESERVED, -1), places])

    def matrix(self, rows: np.ndarray) -> sparse.csr_matrix:
        """See `Exclusion`."""
        if self._place_of_code is None:
            return self._pairs.at(self._pairs.place(pc.cast(self._store.row_ids(rows), pa.string())))
        codes = self._store.read_sparse(rows)[:, self._store.schema.categorical.index(self._pairs.key)]
        return self._pairs.at(self._place_of_code[codes])


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
