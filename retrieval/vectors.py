"""Computes the vectors of requests and of the catalog with trained towers."""

import numpy as np
import torch

from recsys.data.resident.loader import AnyBatches, open_loader
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.nn.precision import Precision, autocast
from recsys.system.progress import progress_line
from recsys.system.world import World
from recsys.training.update.finite import check_scores
from retrieval.catalog import Catalog, item_batch
from retrieval.two_tower import TwoTower


@torch.no_grad()
def request_vectors(
    model: TwoTower, batches: AnyBatches, rows: Rows, batch_size: int, precision: Precision, world: World
) -> np.ndarray:
    """Returns the [n, d] float32 vectors of the rows' requests on every process; a collective call.

    Args:
        model: the towers.
        batches: makes batches of the rows: a split, or its rows on the device.
        rows: the rows.
        batch_size: rows per batch, over all processes.
        precision: precision of the matrix products.
        world: the processes.

    Raises:
        DivergenceError: if a vector is not finite.
    """
    model.eval()
    loader = open_loader(batches, rows, batch_size, model.sequences, world=world)
    vectors = torch.zeros(len(rows), model.width)
    with progress_line("requests", len(rows), world.is_main) as line:
        for index, batch in enumerate(loader):
            share = loader.positions(index)
            with autocast(world.device, precision):
                batch_vectors = model.user_vectors(batch.to(world.device), len(batch))
            vectors[share.start : share.stop] = batch_vectors[: len(share)].cpu()
            line.advance(len(batch) * world.size)
    return check_scores(world.all_reduce(vectors).numpy())


@torch.no_grad()
def item_vectors(
    model: TwoTower, split: Split, catalog: Catalog, batch_size: int, precision: Precision, world: World
) -> np.ndarray:
    """Returns the [I, d] float32 vectors of the catalog on every process; a collective call.

    Raises:
        DivergenceError: if a vector is not finite.
    """
    model.eval()
    n_items = len(catalog)
    vectors = torch.zeros(n_items, model.width)
    n_local = -(-batch_size // world.size)
    for start in range(0, n_items, n_local * world.size):
        indices = np.arange(start + n_local * world.rank, start + n_local * (world.rank + 1))
        rows = catalog.rows[np.minimum(indices, n_items - 1)]  # all processes must look up equally many items
        batch = item_batch(split, rows, model.sequences, model.item_sequences)
        with autocast(world.device, precision):
            batch_vectors = model.item_vectors(batch.to(world.device)).cpu()
        is_valid = indices < n_items
        vectors[indices[is_valid]] = batch_vectors[torch.from_numpy(is_valid)]
    return check_scores(world.all_reduce(vectors).numpy())


class InnerProducts:
    """Scores all items for requests by the inner product of their vectors.

    Args:
        user: [n, d] request vectors.
        items: [I, d] item vectors.
    """

    def __init__(self, user: np.ndarray, items: np.ndarray) -> None:
        self._user, self._items = torch.from_numpy(user), torch.from_numpy(items)

    def __call__(self, requests: np.ndarray) -> np.ndarray:
        """Returns [b, I] scores of [b] request indices."""
        return (self._user[torch.from_numpy(requests)] @ self._items.T).numpy()
