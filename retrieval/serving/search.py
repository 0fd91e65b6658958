"""The best items of requests among those that are not excluded.

Shapes: b requests, I items, k items of a request.
"""

import numpy as np
import torch
from scipy import sparse

from retrieval.index import ItemIndex

_MAX_EXACT_ITEMS = 20_000
_AT_ONCE = 1 << 22


class ItemSearch:
    """Finds the best items of each request.

    A small exact index is searched by one matrix product with the excluded items masked; of others, as many items more
    are retrieved as are excluded at most.

    Args:
        index: the items' vectors.
    """

    def __init__(self, index: ItemIndex) -> None:
        self._index, self._items_DI = index, None
        if index.kind == "flat" and not index.is_on_gpu and len(index) <= _MAX_EXACT_ITEMS:
            self._items_DI = torch.from_numpy(index.index.reconstruct_n(0, len(index))).T.contiguous()

    def __call__(
        self, requests: np.ndarray, k: int, excluded: sparse.csr_matrix | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns [b, k] float32 inner products in falling order, and [b, k] int64 items, -1 after the last one.

        Args:
            requests: [b, d] vectors.
            k: items of a request, at most I.
            excluded: [b, I], nonzero for items that are excluded; None for none.
        """
        if self._items_DI is not None:
            return _exact(self._items_DI, requests, k, excluded)
        n_items = len(self._index)
        longest = 0 if excluded is None or len(requests) == 0 else int(np.diff(excluded.indptr).max())
        n_found = min(k + longest, n_items)
        scores, items = self._index.search(requests, n_found)
        is_kept = items >= 0
        if excluded is not None:
            pairs = np.repeat(np.arange(len(requests)), n_found) * n_items + items.reshape(-1)
            rows, columns = excluded.nonzero()
            is_kept &= ~np.isin(pairs, rows.astype(np.int64) * n_items + columns).reshape(items.shape)
        order = np.argsort(~is_kept, axis=1, kind="stable")[:, :k]
        is_kept = np.take_along_axis(is_kept, order, axis=1)
        items = np.where(is_kept, np.take_along_axis(items, order, axis=1), -1)
        return np.take_along_axis(scores, order, axis=1), items


def _exact(
    items_DI: torch.Tensor, requests: np.ndarray, k: int, excluded: sparse.csr_matrix | None
) -> tuple[np.ndarray, np.ndarray]:
    scores, items = np.empty((len(requests), k), np.float32), np.empty((len(requests), k), np.int64)
    size = max(1, _AT_ONCE // items_DI.shape[1])
    for start in range(0, len(requests), size):
        block = slice(start, start + size)
        scores_bI = torch.from_numpy(np.ascontiguousarray(requests[block], np.float32)) @ items_DI
        if excluded is not None:
            rows, columns = excluded[block].nonzero()
            scores_bI[torch.from_numpy(rows.astype(np.int64)), torch.from_numpy(columns.astype(np.int64))] = -torch.inf
        values, best = scores_bI.topk(k, dim=1)
        scores[block], items[block] = values.numpy(), best.numpy()
    return scores, np.where(np.isneginf(scores), -1, items)
