"""What training two towers minimises: each row's own item against the others of the batch, or of the catalog."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from recsys.data.batch import Batch
from recsys.data.split import Split
from recsys.nn.jagged import sum_by_row
from recsys.system.world import World
from recsys.training.task import Objective
from retrieval.catalog import Catalog
from retrieval.config import RetrievalLoss
from retrieval.losses import log_expected_count, log_sum_of_others, sampled_softmax, unlikelihood
from retrieval.two_tower import TwoTower

_PSEUDO_COUNT = 0.1


def target_ids(split: Split, rows: np.ndarray) -> np.ndarray:
    """[n] embedding ids of the rows' target items."""
    assert split.schema.target_item is not None
    return split.batch(rows, ()).sparse[split.schema.target_item].values().numpy()


def share_by_id(split: Split, catalog: Catalog, counts: np.ndarray) -> Tensor:
    """[V] the items' shares of [A] counts, by embedding id; of items that share one, their mean; never zero."""
    assert split.schema.target_item is not None
    n_ids = split.schema.num_embeddings[split.schema.target_item]
    ids = target_ids(split, catalog.rows)
    smoothed = counts + _PSEUDO_COUNT
    n_items = np.bincount(ids, minlength=n_ids)
    sums = np.bincount(ids, weights=smoothed, minlength=n_ids)
    shares = np.where(n_items > 0, sums / np.maximum(1, n_items), _PSEUDO_COUNT) / smoothed.sum()
    return torch.from_numpy(shares.astype(np.float32))


class RowSoftmax(Objective):
    """A softmax over each row's own item and the candidates: the other rows' items, and those that follow the rows.

    Worked through in micro-batches, a row meets the candidates of its own part alone.

    Args:
        model: the towers.
        config: the loss.
        share_V: see `share_by_id`.
        n_items: of the catalog.
        are_all_positive: whether every row is a positive, whatever its label.
        world: the processes; each row meets the candidates of all.
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
        """[B] losses, zero for the items that follow the rows."""
        config = self._config
        n_rows = batch.n_rows
        user_BD = self.model.user_vectors(batch, n_rows)
        item_MD = self.model.item_vectors(batch)
        id_M = batch.sparse[self.model.target].values().long()
        is_there_M = batch.is_real
        own_BD, own_id_B = item_MD[:n_rows], id_M[:n_rows]
        if config.full_catalog:
            item_MD, id_M, is_there_M = item_MD[n_rows:], id_M[n_rows:], is_there_M[n_rows:]
        else:
            item_MD, id_M, is_there_M = (self._world.all_gather(x) for x in (item_MD, id_M, is_there_M))
        scaled_BD = self.model.scale * user_BD
        own_B = (scaled_BD * own_BD).sum(dim=1)
        others_B = log_sum_of_others(scaled_BD, item_MD, self._shifts(id_M, is_there_M), own_id_B, id_M)
        losses = self._row_losses(own_B, others_B, batch.label[:n_rows])
        return functional.pad(losses, (0, len(batch) - n_rows))

    def _shifts(self, id_M: Tensor, is_there_M: Tensor) -> Tensor:
        """[M] what the candidates' logits are corrected by."""
        config = self._config
        shift_M = torch.zeros(len(id_M), device=id_M.device)
        if config.logq_correction and not config.full_catalog:
            n_uniform = config.uniform_negatives * self._world.size
            n_drawn = int(is_there_M.sum()) - n_uniform
            shift_M = log_expected_count(self.share, n_drawn, n_uniform, self._n_items)[id_M]
        return shift_M.masked_fill(~is_there_M, torch.inf)

    def _row_losses(self, own_B: Tensor, others_B: Tensor, label_B: Tensor) -> Tensor:
        losses = sampled_softmax(own_B, others_B)
        if self._are_all_positive or self._config.impressions == "ignore":
            return losses
        shown = unlikelihood(own_B, others_B) if self._config.impressions == "negative" else losses
        return torch.where(label_B > 0.5, losses, self._config.impression_weight * shown)


class StepSoftmax(Objective):
    """A softmax over the catalog for each step of the causal sequence: what came next, the row's own item at the end.

    Args:
        model: towers that pool causally.
        entry_V: [V] places in the catalog by embedding id; -1 for ids that stand for no single item.
        steps_per_row: on average, so that a row's loss is near that of one step.
    """

    entry: Tensor

    def __init__(self, model: TwoTower, entry_V: Tensor, steps_per_row: float, world: World) -> None:
        super().__init__(model)
        self.model: TwoTower = model
        self.entry, self._steps_per_row = entry_V.to(world.device), steps_per_row

    def forward(self, batch: Batch) -> Tensor:
        """[B] losses, zero for the items that follow the rows."""
        assert self.model.causal_over is not None
        n_rows = batch.n_rows
        step_SD, row_S = self.model.step_vectors(batch, n_rows)
        item_AD = self.model.item_vectors(batch)[n_rows:]
        history = batch.sequences[self.model.causal_over]
        last_B = (history.lengths()[:n_rows].long() + 1).cumsum(0) - 1
        is_last_S = torch.zeros(len(row_S), dtype=torch.bool, device=row_S.device)
        is_last_S[last_B] = True
        next_S = torch.empty(len(row_S), dtype=torch.int64, device=row_S.device)
        next_S[~is_last_S] = history.values().long()
        next_S[is_last_S] = batch.sparse[self.model.target].values()[:n_rows].long()
        entry_S = self.entry[next_S]
        scaled_SD, place_A = self.model.scale * step_SD, torch.arange(len(item_AD), device=row_S.device)
        own_S = (scaled_SD * item_AD.index_select(0, entry_S.clamp(min=0))).sum(dim=1)
        others_S = log_sum_of_others(
            scaled_SD, item_AD, torch.zeros(len(item_AD), device=row_S.device), entry_S, place_A
        )
        losses_S = torch.where(entry_S >= 0, sampled_softmax(own_S, others_S), 0.0)
        losses_B = sum_by_row(losses_S, row_S, n_rows) / self._steps_per_row
        return functional.pad(losses_B, (0, len(batch) - n_rows))


def entry_by_id(split: Split, catalog: Catalog) -> Tensor:
    """[V] the catalog's place of each embedding id; -1 where it stands for several items, or none."""
    assert split.schema.target_item is not None
    ids = target_ids(split, catalog.rows)
    n_ids = split.schema.num_embeddings[split.schema.target_item]
    entry = np.full(n_ids, -1, np.int64)
    entry[ids] = np.arange(len(ids))
    entry[np.bincount(ids, minlength=n_ids) > 1] = -1
    return torch.from_numpy(entry)
