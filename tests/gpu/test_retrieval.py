"""Retrieval tests on a GPU: `make test-gpu`; skipped without a GPU."""

import faiss
import numpy as np
import pytest
import torch
from torch import Tensor

from recsys.data.dataset import PreparedDataset
from recsys.system.world import join_world
from retrieval.catalog import build_catalog
from retrieval.config import IndexConfig, RetrievalLoss
from retrieval.index import build_index
from retrieval.losses import logsumexp_negatives
from retrieval.negatives import WithNegatives
from retrieval.objective import RowSoftmax, share_by_id
from tests.helpers.towers import towers
from tests.helpers.vectors import ITEMS, QUERIES, brute_force

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]
needs_faiss_gpu = pytest.mark.skipif(
    not hasattr(faiss, "StandardGpuResources"), reason="this faiss is not built for GPUs"
)


@needs_faiss_gpu
@pytest.mark.parametrize("kind", ["flat", "ivf_flat"])
def test_gpu_search_agrees_with_cpu_search(kind: str) -> None:
    config = {"kind": kind, "n_lists": 20, "n_probe": 5}
    indexes = [build_index(ITEMS, IndexConfig.model_validate(config | {"device": device})) for device in ("cpu", "gpu")]
    assert indexes[1].is_on_gpu
    (scores, places), (other_scores, other_places) = (index.search(QUERIES, 20) for index in indexes)
    np.testing.assert_allclose(scores, other_scores, atol=1e-5)
    assert np.mean(places == other_places) > 0.99  # ties may have another order
    if kind == "flat":
        assert np.mean(other_places == brute_force(ITEMS, QUERIES, 20)) > 0.99


@needs_faiss_gpu
def test_product_quantization_on_the_gpu() -> None:
    config = {"kind": "ivf_pq", "pq_bytes": 8, "n_lists": 20, "n_probe": 20}
    places = [
        build_index(ITEMS, IndexConfig.model_validate(config | {"device": device})).search(QUERIES, 50)[1]
        for device in ("cpu", "gpu")
    ]
    shared = [len(np.intersect1d(a, b)) / 50 for a, b in zip(*places, strict=True)]
    assert np.mean(shared) > 0.95


def test_chunked_log_sums_agree_with_the_cpu() -> None:
    torch.manual_seed(0)
    x, items, shift = torch.randn(70, 8), torch.randn(90, 8), torch.rand(90)
    own, ids = torch.randint(0, 40, (70,)), torch.randint(0, 40, (90,))
    found: list[Tensor] = []
    for device in ("cpu", "cuda"):
        inputs = [tensor.detach().to(device).requires_grad_() for tensor in (x, items)]
        sums = logsumexp_negatives(*inputs, shift.to(device), own.to(device), ids.to(device))
        sums.sum().backward()
        found.append(torch.cat([sums.detach().cpu(), *(t.grad.cpu().view(-1) for t in inputs if t.grad is not None)]))
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)


def test_towers_and_losses_on_the_gpu(shops: PreparedDataset) -> None:
    world, split = join_world(), shops.split("holdout")
    catalog = build_catalog(split, split.fit_rows, [], True)
    model = towers(shops)
    batch = WithNegatives(split, catalog, (), 5, 5, False, seed=0).batch(np.arange(30), model.sequences)
    share = share_by_id(split, catalog, catalog.n_impressions)
    objective = RowSoftmax(model, RetrievalLoss(impressions="negative"), share, len(catalog), False, world)
    losses = objective(batch.to(world.device))
    losses.sum().backward()
    assert losses.device.type == "cuda"
    assert bool(torch.isfinite(losses).all())
    assert model.log_scale.grad is not None
