"""The best items that are not excluded, against sorting all of them."""

import numpy as np
import pytest
from scipy import sparse

from retrieval.config import IndexConfig
from retrieval.index import build_index
from retrieval.serving import search
from retrieval.serving.search import ItemSearch

N_ITEMS, N_REQUESTS, WIDTH = 60, 25, 5


@pytest.mark.parametrize("is_small", [True, False], ids=["matrix", "index"])
@pytest.mark.parametrize("share", [None, 0.3])
def test_best_items_by_sorting(is_small: bool, share: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_AT_ONCE", 4 * N_ITEMS)  # several blocks
    if not is_small:
        monkeypatch.setattr(search, "_MAX_EXACT_ITEMS", 0)
    rng = np.random.default_rng(0)
    items, requests = (rng.normal(size=(n, WIDTH)).astype(np.float32) for n in (N_ITEMS, N_REQUESTS))
    mask = np.zeros((N_REQUESTS, N_ITEMS), bool) if share is None else rng.random((N_REQUESTS, N_ITEMS)) < share
    mask[0] = share is not None  # nothing is left
    excluded = None if share is None else sparse.csr_matrix(mask.astype(np.float32))
    find = ItemSearch(build_index(items, IndexConfig(kind="flat")))
    scores, found = find(requests, 7, excluded)
    expected = np.where(mask, -np.inf, requests @ items.T)
    for row in range(N_REQUESTS):
        best = np.argsort(-expected[row])[:7]
        best = best[np.isfinite(expected[row][best])]
        assert found[row].tolist() == [*best.tolist(), *[-1] * (7 - len(best))]
        np.testing.assert_allclose(scores[row][: len(best)], expected[row][best], rtol=1e-5)
