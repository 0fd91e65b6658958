"""Training two towers on a split, by the trainer that the ranking models have."""

import hashlib
from pathlib import Path

import numpy as np
import torch

from recsys.data.rows import ListedRows, Rows
from recsys.data.split import Split
from recsys.distributed.sharding import shard
from recsys.errors import InputError
from recsys.system.world import World
from recsys.training.checkpoint import load_tensors
from recsys.training.config import LossConfig
from recsys.training.log import Log
from recsys.training.losses import build_loss
from recsys.training.predict import predict
from recsys.training.task import Objective, RowLoss, Task, Validation
from recsys.training.trainer import Trainer
from retrieval.catalog import Catalog
from retrieval.config import PositivesOf, RetrievalLoss, RetrievalTrainerConfig
from retrieval.evaluation.ranks import measure_ranks, rank_all
from retrieval.negatives import WithNegatives
from retrieval.objective import RowSoftmax, StepSoftmax, entry_by_id, share_by_id
from retrieval.two_tower import TwoTower, TwoTowerConfig
from retrieval.vectors import InnerProducts, item_vectors, request_vectors
from retrieval.windows import windows


def rows_to_train(split: Split, rows: Rows, positives: PositivesOf, loss: RetrievalLoss, seed: int) -> Rows:
    """The rows that training reads: positives, and as many others as the loss asks for.

    Raises:
        InputError: when none is a positive.
    """
    if positives == "all":
        return rows
    labels = np.concatenate([split.store.labels(block) for block in rows.blocks()])
    is_positive = labels == 1
    if not is_positive.any():
        raise InputError(f"split {split.name!r} has no click to learn retrieval from: give it more rows")
    if loss.name == "sampled_softmax" and loss.impressions == "ignore":
        is_read = is_positive
    elif loss.impressions_per_positive is None:
        return rows
    else:
        rate = loss.impressions_per_positive * is_positive.sum() / max(1, (~is_positive).sum())
        is_read = is_positive | (np.random.default_rng(seed).random(len(labels)) < rate)
    return ListedRows(rows.numbers()[is_read])


def positives_among(split: Split, rows: Rows, positives: PositivesOf) -> Rows:
    """The rows that name an item which should have been retrieved."""
    numbers = rows.numbers()
    is_positive = split.store.items(numbers) >= 0
    if positives == "clicked":
        is_positive &= split.store.labels(numbers) == 1
    return ListedRows(numbers[is_positive])


def build_retrieval_trainer(
    model_config: TwoTowerConfig,
    config: RetrievalTrainerConfig,
    positives: PositivesOf,
    split: Split,
    rows: Rows,
    catalog: Catalog,
    monitor: Rows | None,
    weights: Path,
    log: Log,
    world: World,
    name: str,
) -> Trainer:
    """What fits towers with fresh weights.

    Args:
        model_config: sizes.
        config: how to train.
        positives: which rows should be retrieved.
        split: encodes rows.
        rows: those of its fitting rows that may be learned from.
        catalog: the items.
        monitor: rows to judge epochs by, where the config asks for it.
        weights: the folder to keep the best epoch's weights in.
        log: receives what there is to see.
        world: the processes.
        name: shown on the progress line.
    """
    torch.manual_seed(config.seed)
    model, loss = TwoTower(model_config, split.schema), config.loss
    read = rows_to_train(split, rows, positives, loss, config.seed)
    link = build_loss(LossConfig(pos_weight=1), split.prior)[1]
    counts = (
        catalog.n_positives
        if loss.name == "sampled_softmax" and loss.impressions == "ignore"
        else catalog.n_impressions
    )
    share_V = share_by_id(split, catalog, counts)
    model.set_popularity(share_V)
    objective: Objective
    batches = WithNegatives(
        split,
        catalog,
        model.item_sequences,
        n_uniform=loss.uniform_negatives,
        n_popular=loss.popular_negatives,
        is_whole=loss.full_catalog,
        seed=config.seed,
    )
    if loss.name == "logistic":
        if positives == "all":
            raise InputError("trainer.loss.name=logistic tells clicks from other rows: set positives=clicked")
        log_loss, link = build_loss(LossConfig(), split.prior)
        objective = RowLoss(model, log_loss)
    elif model.causal_over is not None:
        if not loss.full_catalog:
            raise InputError(
                "model.pooling=causal contrasts steps with the whole catalog: set trainer.loss.full_catalog=true"
            )
        read, steps_per_row = windows(split, read, model.causal_over)
        objective = StepSoftmax(model, entry_by_id(split, catalog), steps_per_row, world)
    else:
        objective = RowSoftmax(model, loss, share_V, len(catalog), positives == "all", world)
    validation = None
    if config.early_stopping is not None:
        if monitor is None:
            raise InputError("trainer.early_stopping of retrieval needs a valid split: set it to null")
        judged = positives_among(split, monitor, positives)
        target = catalog.entries(split, judged.numbers())

        def measure() -> dict[str, float]:
            size, precision = config.eval_batch_size, config.precision
            user = request_vectors(model, split, judged, size, precision, world)
            items = item_vectors(model, split, catalog, size, precision, world)
            return measure_ranks(rank_all(InnerProducts(user, items), target, len(catalog)).rank)

        validation = Validation(measure, config.early_stopping.metric, config.early_stopping.patience)
    task = Task(read, batches, objective, link, validation)
    return Trainer(model, split, None, config, weights, log, world, name, task)


class Towers:
    """Trained towers.

    Args:
        model: the towers, their tables sharded.
        split: encodes rows.
        config: batch size and precision.
        identity: names the weights.
        world: the processes, all of which must call.
    """

    def __init__(
        self, model: TwoTower, split: Split, config: RetrievalTrainerConfig, identity: str, world: World
    ) -> None:
        self.model, self._split, self._config, self._world = model, split, config, world
        self.identity = identity

    @property
    def scale(self) -> float:
        """What takes an inner product to a logit."""
        return float(self.model.scale.detach())

    def request_vectors(self, rows: Rows) -> np.ndarray:
        """[n, d] of the rows' requests."""
        config = self._config
        return request_vectors(self.model, self._split, rows, config.eval_batch_size, config.precision, self._world)

    def item_vectors(self, catalog: Catalog) -> np.ndarray:
        """[A, d] of the catalog."""
        config = self._config
        return item_vectors(self.model, self._split, catalog, config.eval_batch_size, config.precision, self._world)

    def logits(self, rows: Rows, name: str) -> np.ndarray:
        """[n] logits of the rows' own pairs."""
        config = self._config
        return predict(self.model, self._split, rows, config.eval_batch_size, config.precision, self._world, name)


def load_towers(
    model_config: TwoTowerConfig,
    config: RetrievalTrainerConfig,
    split: Split,
    catalog: Catalog,
    weights: Path,
    world: World,
) -> Towers:
    """The towers whose weights a fit left in a folder, with the popularity that items had most recently."""
    model = TwoTower(model_config, split.schema)
    sharded = shard(model, config.embeddings, config.seed, -(-config.batch_size // world.size), world)
    load_tensors(weights, sharded.state_dict())
    model.set_popularity(share_by_id(split, catalog, catalog.recent))
    digest = hashlib.sha256()
    for path in sorted(weights.glob("*.distcp")):
        digest.update(path.read_bytes())
    return Towers(model, split, config, digest.hexdigest()[:16], world)
