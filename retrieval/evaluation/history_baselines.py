"""Baseline rankings from a user's history: transitions from the last item, and item-based nearest neighbors.

Shapes: I items of the catalog; n rows, b rows of a block.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse

from recsys.data.jagged import gather_indices
from recsys.data.rows import ListedRows, Permutation, Rows
from recsys.data.split import Split
from recsys.data.vocabulary import N_RESERVED
from recsys.schema.resolved import Schema
from retrieval.catalog import Catalog

N_COUNTED_EVENTS = 50
"""Most recent events of a training history that are counted."""
N_COUNTED_ROWS = 1_000_000
"""Training rows that are counted; of more rows, a random sample of this size is."""
N_REQUEST_EVENTS = 5
"""Most recent events of a request whose neighbors are summed: more of them gave lower recall on every data set."""
N_NEIGHBORS = 100
_BLOCK_ROWS = 16_384


def item_histories(schema: Schema) -> tuple[str, ...]:
    """Returns the sequences of target items that the towers read with a request; empty if there are none."""
    names = {name for tower in ("user", "context") for name in schema.towers.get(tower, ())}
    return tuple(s.name for s in schema.token_sequences if s.name in names and s.vocabulary == schema.target_item)


class Histories:
    """Reads rows' histories of target items as catalog indices.

    Args:
        split: provides the rows and the schema.
        catalog: the items.
    """

    def __init__(self, split: Split, catalog: Catalog) -> None:
        assert split.schema.target_item is not None
        sequences = item_histories(split.schema)
        self._store, self._sequences, self.n_items = split.store, sequences, len(catalog)
        stored = split.store.schema
        codes = split.store.read_sparse(catalog.rows)[:, stored.categorical.index(split.schema.target_item)]
        self._index_of_code = np.full(max(N_RESERVED, int(codes.max(initial=0)) + 1), -1, np.int64)
        self._index_of_code[codes] = np.arange(len(catalog))
        self._index_of_code[:N_RESERVED] = -1  # missing and rare values are no single item

    def matrix(
        self, rows: np.ndarray, n_recent: int | None = None, half_life: float | None = None
    ) -> sparse.csr_matrix:
        """Returns [b, I] counts of the items among the most recent events of each sequence; None counts all events.

        With a half-life, the last event counts 1 and an event `half_life` events before it counts a half.
        """
        row_indices, items, weights = [], [], []
        for name in self._sequences:
            codes, lengths = self._store.read_tokens(name, rows)
            n_kept = lengths if n_recent is None else np.minimum(lengths, n_recent)
            codes = codes[gather_indices(np.cumsum(lengths, dtype=np.int64) - n_kept, n_kept)]
            is_known = codes < len(self._index_of_code)
            item = np.where(is_known, self._index_of_code[np.where(is_known, codes, 0)], -1)
            row_indices.append(np.repeat(np.arange(len(rows)), n_kept)[item >= 0])
            items.append(item[item >= 0])
            age = np.repeat(np.cumsum(n_kept, dtype=np.int64), n_kept) - 1 - np.arange(len(item))
            weights.append(np.exp2(-age / (half_life or np.inf)).astype(np.float32)[item >= 0])
        places = (np.concatenate(row_indices), np.concatenate(items))
        return sparse.csr_matrix((np.concatenate(weights), places), shape=(len(rows), self.n_items))


@dataclass(frozen=True)
class PairCounts:
    """Pairs of an event of a history and the item of the row, counted over training positives."""

    after_last: sparse.csr_matrix
    """[I, I]: rows with item j whose history ends with item i, at [i, j]."""
    together: sparse.csr_matrix
    """[I, I], symmetric, without a diagonal: rows of one of two items whose histories have the other."""


def count_pairs(histories: Histories, catalog: Catalog, split: Split, positives: Rows, seed: int) -> PairCounts:
    """Counts the pairs of training positives.

    Args:
        histories: reads the rows' histories.
        catalog: the items.
        split: provides the rows' items.
        positives: fitting rows that are positives.
        seed: chooses the sample of many rows.
    """
    n_items = len(catalog)
    if len(positives) > N_COUNTED_ROWS:
        sampled = Permutation(len(positives), seed)(np.arange(N_COUNTED_ROWS))
        positives = ListedRows(np.sort(positives(sampled)))
    after_last, before = (sparse.csr_matrix((n_items, n_items), dtype=np.float32) for _ in range(2))
    for rows in positives.blocks(_BLOCK_ROWS):
        events = histories.matrix(rows, N_COUNTED_EVENTS)
        events.data[:] = 1
        item = _counts(np.arange(len(rows)), catalog.entries(split, rows), (len(rows), n_items))
        before += events.T @ item
        after_last += histories.matrix(rows, 1).T @ item
    together = (before + before.T).tocsr()
    together.setdiag(0)
    together.eliminate_zeros()
    return PairCounts(after_last.tocsr(), together)


class FromRecentItems:
    """Ranks items by the sum of their weights from the most recent items of the history.

    Args:
        histories: reads the requests' histories.
        requests: the rows of the requests.
        n_recent: most recent events of a history that are summed.
        weight: [I, I], at [i, j] that of item j if item i is in the history.
        ties: [I] scores of the items without a history, below the differences between weights.
    """

    def __init__(
        self, histories: Histories, requests: Rows, n_recent: int, weight: sparse.csr_matrix, ties: np.ndarray
    ) -> None:
        self._histories, self._requests, self._n_recent = histories, requests, n_recent
        self._weight, self._ties = weight, ties

    def __call__(self, requests: np.ndarray) -> np.ndarray:
        """Returns [b, I] scores of [b] request indices."""
        recent = self._histories.matrix(self._requests(requests), self._n_recent)
        return (recent @ self._weight).toarray() + self._ties


def transitions(histories: Histories, requests: Rows, pairs: PairCounts, popularity: np.ndarray) -> FromRecentItems:
    """Ranks items by how often they came directly after the last item of the history; ties by popularity.

    Args:
        histories: reads the requests' histories.
        requests: the rows of the requests.
        pairs: training counts.
        popularity: [I] counts of the items.
    """
    return FromRecentItems(histories, requests, 1, pairs.after_last, _below_one(popularity))


def item_neighbors(histories: Histories, requests: Rows, pairs: PairCounts, popularity: np.ndarray) -> FromRecentItems:
    """Ranks items by the sum of their cosine similarities to the most recent items; ties by popularity.

    The similarity of two items is their number of common histories over the root of the product of their counts; each
    item keeps its `N_NEIGHBORS` most similar items.

    Source: Deshpande and Karypis, "Item-based top-N recommendation algorithms", TOIS 2004.

    Args:
        histories: reads the requests' histories.
        requests: the rows of the requests.
        pairs: training counts.
        popularity: [I] counts of the items.
    """
    scale = sparse.diags(1 / np.sqrt(np.maximum(1, popularity)))
    similarity = largest_of_rows((scale @ pairs.together @ scale).tocsr(), N_NEIGHBORS)
    return FromRecentItems(histories, requests, N_REQUEST_EVENTS, similarity, 1e-6 * _below_one(popularity))


def largest_of_rows(matrix: sparse.csr_matrix, n_largest: int) -> sparse.csr_matrix:
    """Returns the matrix with the `n_largest` largest values of each row, and values that equal the least of them."""
    data, ends = matrix.data.copy(), matrix.indptr
    for start, stop in pairwise(ends):
        if stop - start > n_largest:
            values = data[start:stop]
            values[values < np.partition(values, -n_largest)[-n_largest]] = 0
    kept = sparse.csr_matrix((data, matrix.indices.copy(), ends.copy()), shape=matrix.shape)
    kept.eliminate_zeros()
    return kept


def _counts(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    return sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)


def _below_one(popularity: np.ndarray) -> np.ndarray:
    """Returns [I] float32 in [0, 0.5] in the order of the counts."""
    return (0.5 * popularity / max(1, popularity.max(initial=0))).astype(np.float32)
