"""The training objective of sequential towers: each step of a history predicts the next item.

Shapes: B rows of a batch, S steps of all rows, I items of the catalog, M sampled items, D width of a vector, V ids of
the target item.
"""

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
from retrieval.losses import (
    catalog_softmax,
    gbce,
    gbce_power,
    log_expected_count,
    logsumexp_negatives,
    sampled_softmax,
)
from retrieval.objective import target_ids
from retrieval.two_tower import TwoTower


class StepLoss(Objective):
    """Computes the loss of the next item at each step; the last step predicts the row's item.

    The candidates are the whole catalog, or sampled items, which are the same for all steps of a batch. A step's own
    next item is none of its negatives.

    Args:
        model: towers with sequential pooling.
        config: the loss.
        share_V: see `share_by_id`.
        entry_V: catalog indices by embedding id; -1 for ids without a unique item, whose steps have no loss.
        steps_per_row: mean number of steps; divides a row's loss so that it has the scale of one step's loss.
        n_items: items of the catalog, which batches end with.
        world: the processes, each of which samples its own negatives.
    """

    entry: Tensor
    share: Tensor

    def __init__(
        self,
        model: TwoTower,
        config: RetrievalLoss,
        share_V: Tensor,
        entry_V: Tensor,
        steps_per_row: float,
        n_items: int,
        world: World,
    ) -> None:
        super().__init__(model)
        self.model: TwoTower = model
        self._config, self._n_items, self._steps_per_row = config, n_items, steps_per_row
        self.entry, self.share = entry_V.to(world.device), share_V.to(world.device)

    def forward(self, batch: Batch) -> Tensor:
        """Returns [B] losses, zero for the items after the rows."""
        n_rows = batch.n_rows
        step_SD, row_S = self.model.step_vectors(batch, n_rows)
        item_ID = self.model.item_vectors(batch)[n_rows:]
        entry_S = self.entry[self._next_ids(batch, row_S)]
        scaled_SD, target_S = self.model.scale * step_SD, entry_S.clamp(min=0)
        if self._config.full_catalog:
            n_used = item_ID.shape[1] if self.model.has_prior else -1  # without a prior the last component is zero
            losses_S = catalog_softmax(scaled_SD[:, :n_used], item_ID[:, :n_used], target_S)
        else:
            share_I = self.share[batch.sparse[self.model.target].values()[n_rows:].long()]
            losses_S = self._sampled(scaled_SD, item_ID, target_S, share_I / share_I.sum())
        losses_B = sum_by_row(torch.where(entry_S >= 0, losses_S, 0.0), row_S, n_rows) / self._steps_per_row
        return functional.pad(losses_B, (0, len(batch) - n_rows))

    def _next_ids(self, batch: Batch, row_S: Tensor) -> Tensor:
        """Returns the [S] embedding ids of the next item at each step."""
        assert self.model.causal_over is not None
        history = batch.sequences[self.model.causal_over]
        last_B = (history.lengths()[: batch.n_rows].long() + 1).cumsum(0) - 1
        is_last_S = torch.zeros(len(row_S), dtype=torch.bool, device=row_S.device)
        is_last_S[last_B] = True
        next_S = torch.empty(len(row_S), dtype=torch.int64, device=row_S.device)
        next_S[~is_last_S] = history.values().long()
        next_S[is_last_S] = batch.sparse[self.model.target].values()[: batch.n_rows].long()
        return next_S

    def _sampled(self, scaled_SD: Tensor, item_ID: Tensor, target_S: Tensor, share_I: Tensor) -> Tensor:
        """Returns [S] losses against sampled items.

        Args:
            scaled_SD: request vectors, divided by the temperature.
            item_ID: vectors of the catalog.
            target_S: catalog indices of the next items.
            share_I: shares of the items among the positives.
        """
        config = self._config
        positive_S = (scaled_SD * item_ID.index_select(0, target_S)).sum(dim=1)
        drawn_M = draw_negatives(config, target_S, share_I)
        negative_MD = item_ID.index_select(0, drawn_M)
        if config.name == "gbce":
            beta = gbce_power(len(drawn_M), self._n_items, config.gbce_calibration)
            return gbce(positive_S, scaled_SD @ negative_MD.T, target_S.unsqueeze(1) == drawn_M, beta)
        shift_I = torch.zeros_like(share_I)
        if config.logq_correction:
            n_drawn = config.popular_negatives + config.batch_negatives
            shift_I = log_expected_count(share_I, n_drawn, config.uniform_negatives, self._n_items)
        negatives_S = logsumexp_negatives(scaled_SD, negative_MD, shift_I[drawn_M], target_S, drawn_M)
        return sampled_softmax(positive_S, negatives_S)


def draw_negatives(config: RetrievalLoss, target_S: Tensor, share_I: Tensor) -> Tensor:
    """Returns the [M] catalog indices of a batch's negatives: uniform, by popularity, and next items of its steps.

    Args:
        config: the numbers of negatives.
        target_S: catalog indices of the steps' next items.
        share_I: shares of the items among the positives.
    """
    device = target_S.device
    drawn = [torch.randint(len(share_I), (config.uniform_negatives,), device=device)]
    if config.popular_negatives:
        drawn.append(torch.multinomial(share_I, config.popular_negatives, replacement=True))
    if config.batch_negatives:
        drawn.append(target_S[torch.randint(len(target_S), (config.batch_negatives,), device=device)])
    return torch.cat(drawn)


def catalog_index_by_id(split: Split, catalog: Catalog) -> Tensor:
    """Returns the [V] catalog index of each embedding id; -1 for an id with several items or none."""
    assert split.schema.target_item is not None
    ids = target_ids(split, catalog.rows)
    n_ids = split.schema.num_embeddings[split.schema.target_item]
    entry = np.full(n_ids, -1, np.int64)
    entry[ids] = np.arange(len(ids))
    entry[np.bincount(ids, minlength=n_ids) > 1] = -1
    return torch.from_numpy(entry)
