"""The training objective of two towers: a softmax of each row's item over the batch's items or the catalog.

Shapes: B rows of a batch, M candidates scored against each row, I items of the catalog, D width of a vector, V ids of
the target item.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from recsys.data.batch import Batch
from recsys.data.split import Split
from recsys.system.world import World
from recsys.training.task import Objective
from retrieval.catalog import Catalog
from retrieval.config import RetrievalLoss
from retrieval.losses import log_expected_count, logsumexp_negatives, sampled_softmax, unlikelihood
from retrieval.two_tower import TwoTower

_PSEUDO_COUNT = 0.1


def target_ids(split: Split, rows: np.ndarray) -> np.ndarray:
    """Returns the [n] embedding ids of the rows' target items."""
    assert split.schema.target_item is not None
    return split.batch(rows, ()).sparse[split.schema.target_item].values().numpy()


def share_by_id(split: Split, catalog: Catalog, counts: np.ndarray) -> Tensor:
    """Returns [V] smoothed shares of [I] item counts by embedding id, all above zero.

    Items that share an id get their mean share.
    """
    assert split.schema.target_item is not None
    n_ids = split.schema.num_embeddings[split.schema.target_item]
    ids = target_ids(split, catalog.rows)
    smoothed = counts + _PSEUDO_COUNT
    n_items = np.bincount(ids, minlength=n_ids)
    sums = np.bincount(ids, weights=smoothed, minlength=n_ids)
    shares = np.where(n_items > 0, sums / np.maximum(1, n_items), _PSEUDO_COUNT) / smoothed.sum()
    return torch.from_numpy(shares.astype(np.float32))


class RowSoftmax(Objective):
    """Computes the softmax loss of each row's item over the candidates: items of other rows, and appended items.

    With micro-batches, a row's candidates are those of its micro-batch.

    Args:
        model: the towers.
        config: the loss.
        share_V: see `share_by_id`.
        n_items: items of the catalog.
        are_all_positive: whether all rows are positives, regardless of the label.
        world: the processes; a row's candidates are those of all processes.
    """

    share: Tensor

    def __init__(
        self,
        model: TwoTower,
        config: RetrievalLoss,
        share_V: Tensor,
        n_items: int,
        are_all_positive: bool,
        world: World,
    ) -> None:
        super().__init__(model, uses_collectives=not config.full_catalog)
        self.model: TwoTower = model
        self._config, self._n_items, self._are_all_positive = config, n_items, are_all_positive
        self._world = world
        self.share = share_V.to(world.device)

    def forward(self, batch: Batch) -> Tensor:
        """Returns [B] losses, zero for the items after the rows."""
        config = self._config
        n_rows = batch.n_rows
        user_BD = self.model.user_vectors(batch, n_rows)
        item_MD = self.model.item_vectors(batch)
        id_M = batch.sparse[self.model.target].values().long()
        is_real_M = batch.is_real
        positive_BD, positive_id_B = item_MD[:n_rows], id_M[:n_rows]
        if config.full_catalog:
            item_MD, id_M, is_real_M = item_MD[n_rows:], id_M[n_rows:], is_real_M[n_rows:]
        else:
            item_MD, id_M, is_real_M = (self._world.all_gather(x) for x in (item_MD, id_M, is_real_M))
        scaled_BD = self.model.scale * user_BD
        positive_B = (scaled_BD * positive_BD).sum(dim=1)
        negatives_B = logsumexp_negatives(scaled_BD, item_MD, self._shifts(id_M, is_real_M), positive_id_B, id_M)
        losses = self._row_losses(positive_B, negatives_B, batch.label[:n_rows])
        return functional.pad(losses, (0, len(batch) - n_rows))

    def _shifts(self, id_M: Tensor, is_real_M: Tensor) -> Tensor:
        """Returns the [M] corrections that are subtracted from the candidates' logits."""
        config = self._config
        shift_M = torch.zeros(len(id_M), device=id_M.device)
        if config.logq_correction and not config.full_catalog:
            n_uniform = config.uniform_negatives * self._world.size
            n_drawn = is_real_M.sum() - n_uniform
            shift_M = log_expected_count(self.share, n_drawn, n_uniform, self._n_items)[id_M]
        return shift_M.masked_fill(~is_real_M, torch.inf)

    def _row_losses(self, item_B: Tensor, negatives_B: Tensor, label_B: Tensor) -> Tensor:
        losses = sampled_softmax(item_B, negatives_B)
        if self._are_all_positive or self._config.impressions == "ignore":
            return losses
        impressions = unlikelihood(item_B, negatives_B) if self._config.impressions == "negative" else losses
        return torch.where(label_B > 0.5, losses, self._config.impression_weight * impressions)
