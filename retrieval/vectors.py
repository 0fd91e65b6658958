"""The vectors of requests and of the catalog, from trained towers."""

import numpy as np
import torch

from recsys.data.loader import Loader
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.nn.precision import Precision, autocast
from recsys.system.progress import progress_line
from recsys.system.world import World
from retrieval.catalog import Catalog, items_alone
from retrieval.two_tower import TwoTower


@torch.no_grad()
def request_vectors(
    model: TwoTower, split: Split, rows: Rows, batch_size: int, precision: Precision, world: World
) -> np.ndarray:
    """[n, d] float32 vectors of the rows' requests, on every process, all of which must call."""
    model.eval()
    loader = Loader(split, rows, batch_size, model.sequences, world=world)
    found = torch.zeros(len(rows), model.width)
    with progress_line("requests", len(rows), world.is_main) as line:
        for index, batch in enumerate(loader):
            share = loader.positions(index)
            with autocast(world.device, precision):
                vectors = model.user_vectors(batch.to(world.device), len(batch))
            found[share.start : share.stop] = vectors[: len(share)].cpu()
            line.advance(len(batch) * world.size)
    return world.all_reduce(found).numpy()


@torch.no_grad()
def item_vectors(
    model: TwoTower, split: Split, catalog: Catalog, batch_size: int, precision: Precision, world: World
) -> np.ndarray:
    """[A, d] float32 vectors of the catalog, on every process, all of which must call."""
    model.eval()
    n_items = len(catalog)
    found = torch.zeros(n_items, model.width)
    share = -(-batch_size // world.size)
    for start in range(0, n_items, share * world.size):
        places = np.arange(start + share * world.rank, start + share * (world.rank + 1))
        rows = catalog.rows[np.minimum(places, n_items - 1)]  # all processes look up as many
        batch = items_alone(split, rows, model.sequences, model.item_sequences)
        with autocast(world.device, precision):
            vectors = model.item_vectors(batch.to(world.device)).cpu()
        is_mine = places < n_items
        found[places[is_mine]] = vectors[torch.from_numpy(is_mine)]
    return world.all_reduce(found).numpy()


class InnerProducts:
    """The scores of all items for requests.

    Args:
        user: [n, d].
        items: [A, d].
    """

    def __init__(self, user: np.ndarray, items: np.ndarray) -> None:
        self._user, self._items = torch.from_numpy(user), torch.from_numpy(items)

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """[b] places of requests to [b, A]."""
        return (self._user[torch.from_numpy(places)] @ self._items.T).numpy()
