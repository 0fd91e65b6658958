"""Trains two towers on a split with the trainer of the ranking models."""

import hashlib
from pathlib import Path

import numpy as np
import torch

from recsys.data.resident.loader import choose_readers
from recsys.data.rows import ListedRows, Permutation, Rows
from recsys.data.split import Split
from recsys.distributed.sharding import shard
from recsys.errors import InputError
from recsys.nn.precision import Precision
from recsys.system.world import World
from recsys.training.checkpoint import load_tensors
from recsys.training.config import LossConfig
from recsys.training.early_stopping import HOLDOUT_STREAM
from recsys.training.log import Log
from recsys.training.losses import build_loss
from recsys.training.predict import predict
from recsys.training.task import Objective, RowLoss, Task, Validation
from recsys.training.trainer import Trainer
from recsys.training.update.finite import check_scores
from recsys.training.update.step import explained_out_of_memory
from retrieval.catalog import Catalog
from retrieval.config import PositivesOf, RetrievalLoss, RetrievalTrainerConfig
from retrieval.evaluation.exclusion import Exclusion, WithoutExcluded
from retrieval.evaluation.ranks import Scores, measure_ranks, rank_targets
from retrieval.negatives import WithNegatives
from retrieval.objective import RowSoftmax, share_by_id
from retrieval.sequential.step_loss import StepLoss, catalog_index_by_id
from retrieval.sequential.windows import windows
from retrieval.two_tower import TwoTower, TwoTowerConfig
from retrieval.vectors import InnerProducts, item_vectors, request_vectors


def rows_to_train(split: Split, rows: Rows, positives: PositivesOf, loss: RetrievalLoss, seed: int) -> Rows:
    """Selects the training rows: positives, and the impressions that the loss uses.

    Raises:
        InputError: when no row is a positive.
    """
    if positives == "all":
        return rows
    labels = np.concatenate([split.store.labels(block) for block in rows.blocks()])
    is_positive = labels == 1
    if not is_positive.any():
        raise InputError(f"split {split.name!r} has no clicks to train retrieval on: add rows to it")
    if loss.ignores_impressions:
        is_selected = is_positive
    elif loss.impressions_per_positive is None:
        return rows
    else:
        rate = loss.impressions_per_positive * is_positive.sum() / max(1, (~is_positive).sum())
        is_selected = is_positive | (np.random.default_rng(seed).random(len(labels)) < rate)
    return ListedRows(rows.numbers()[is_selected])


def positives_among(split: Split, rows: Rows, positives: PositivesOf) -> Rows:
    """Selects the rows that are positives and have an item."""
    numbers = rows.numbers()
    is_positive = split.store.items(numbers) >= 0
    if positives == "clicked":
        is_positive &= split.store.labels(numbers) == 1
    return ListedRows(numbers[is_positive])


def hold_out(split: Split, rows: Rows, positives: PositivesOf, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Returns the rows without a random part of their positives, and this part.

    Raises:
        InputError: when no positive is left.
    """
    numbers, held_out = rows.numbers(), positives_among(split, rows, positives).numbers()
    if len(held_out) < 2:
        raise InputError(
            f"split {split.name!r} has too few positives to hold out some: add rows, or set trainer.early_stopping=null"
        )
    order = Permutation(len(held_out), seed, HOLDOUT_STREAM)(np.arange(max(1, round(fraction * len(held_out)))))
    held_out = np.sort(held_out[order])
    return ListedRows(numbers[~np.isin(numbers, held_out)]), ListedRows(held_out)


def build_retrieval_trainer(
    model_config: TwoTowerConfig,
    config: RetrievalTrainerConfig,
    positives: PositivesOf,
    split: Split,
    rows: Rows,
    catalog: Catalog,
    monitor: Rows | None,
    exclusion: Exclusion | None,
    weights: Path,
    log: Log,
    world: World,
    name: str,
) -> Trainer:
    """Builds the trainer of towers with initial weights.

    Args:
        model_config: hyperparameters of the towers.
        config: training settings.
        positives: the rows that count as positives.
        split: encodes rows.
        rows: the fitting rows to train on.
        catalog: the items; those without a fitting row are no negatives.
        monitor: validation rows for early stopping; None holds out some of the positives if early stopping is on.
        exclusion: the items that early stopping ranks last; None for none.
        weights: the folder that the best epoch's weights are saved in.
        log: receives training metrics.
        world: the processes.
        name: shown on the progress line.

    Raises:
        InputError: when `rows` has no positive, or the settings do not fit each other or the split.
    """
    torch.manual_seed(config.seed)
    model, loss = TwoTower(model_config, split.schema), config.loss
    if config.early_stopping is not None and monitor is None:
        if model.causal_over is not None:
            raise InputError(
                f"trainer.early_stopping needs a valid split with model.pooling={model_config.pooling}, split "
                f"{split.name!r} has none: set it to null"
            )
        rows, monitor = hold_out(split, rows, positives, config.validation_fraction, config.seed)
    train_rows, known = rows_to_train(split, rows, positives, loss, config.seed), catalog.known()
    link = build_loss(LossConfig(pos_weight=1), split.prior)[1]
    counts = known.n_positives if loss.ignores_impressions else known.n_impressions
    share_V = share_by_id(split, known, counts)
    model.set_popularity(share_V)
    objective: Objective
    batches = WithNegatives(
        split,
        known,
        model.item_sequences,
        n_uniform=loss.uniform_negatives,
        n_popular=loss.popular_negatives,
        is_whole=loss.full_catalog or model.causal_over is not None,
        seed=config.seed,
    )
    if loss.name == "logistic":
        if positives == "all":
            raise InputError("trainer.loss.name=logistic needs clicks, got positives=all: set positives=clicked")
        log_loss, link = build_loss(LossConfig(), split.prior)
        objective = RowLoss(model, log_loss)
    elif model.causal_over is not None:
        if not loss.full_catalog and not loss.n_sampled:
            raise InputError(
                f"model.pooling={model_config.pooling} needs negatives: set trainer.loss.full_catalog=true, or "
                "trainer.loss.uniform_negatives=256"
            )
        train_rows, steps_per_row = windows(split, train_rows, model.causal_over)
        entry_V = catalog_index_by_id(split, known)
        objective = StepLoss(model, loss, share_V, entry_V, steps_per_row, len(known), world)
    elif loss.name == "gbce" or loss.batch_negatives:
        raise InputError(
            f"trainer.loss.{'name=gbce' if loss.name == 'gbce' else 'batch_negatives'} needs a sequential pooling, got "
            f"model.pooling={model_config.pooling}: set model.pooling=ligr, or another loss"
        )
    else:
        objective = RowSoftmax(model, loss, share_V, len(known), positives == "all", world)
    validation = None
    if config.early_stopping is not None:
        assert monitor is not None
        requests = positives_among(split, monitor, positives)
        if len(requests) == 0:
            raise InputError(
                f"trainer.early_stopping needs positives among the {len(monitor):,} valid rows, they have none: "
                "set it to null"
            )
        target = catalog.entries(split, requests.numbers())
        _, evaluated = choose_readers(split, split, config.data, world.device)

        def measure() -> dict[str, float]:
            batch_size, precision = config.eval_batch_size, config.precision
            user = request_vectors(model, evaluated, requests, batch_size, precision, world)
            items = item_vectors(model, split, catalog, batch_size, precision, world)
            scores: Scores = InnerProducts(user, items)
            scores = scores if exclusion is None else WithoutExcluded(scores, exclusion, requests)
            return measure_ranks(rank_targets(scores, target, len(catalog)))

        validation = Validation(measure, config.early_stopping.metric, config.early_stopping.patience)
    task = Task(train_rows, batches, objective, link, validation)
    with explained_out_of_memory("the towers do not fit in memory: lower the sizes in the section retrieval.model"):
        return Trainer(model, split, None, config, weights, log, world, name, task)


class Towers:
    """Trained towers.

    Args:
        model: the towers, their tables sharded.
        split: encodes rows.
        config: batch size and precision.
        identity: a hash of the weights.
        world: the processes; vectors and logits are collective calls.
    """

    def __init__(
        self, model: TwoTower, split: Split, config: RetrievalTrainerConfig, identity: str, world: World
    ) -> None:
        self.model, self._split, self._config, self._world = model, split, config, world
        _, self._batches = choose_readers(split, split, config.data, world.device)
        self.identity = identity

    @property
    def precision(self) -> Precision:
        """Precision of the matrix products."""
        return self._config.precision

    @property
    def scale(self) -> float:
        """The factor from inner products to logits."""
        return float(self.model.scale.detach())

    def request_vectors(self, rows: Rows) -> np.ndarray:
        """Returns the [n, d] vectors of the rows' requests."""
        config = self._config
        return request_vectors(self.model, self._batches, rows, config.eval_batch_size, config.precision, self._world)

    def item_vectors(self, catalog: Catalog) -> np.ndarray:
        """Returns the [I, d] vectors of the catalog."""
        config = self._config
        return item_vectors(self.model, self._split, catalog, config.eval_batch_size, config.precision, self._world)

    def logits(self, rows: Rows, name: str) -> np.ndarray:
        """Returns the [n] logits of the rows' (request, item) pairs."""
        config = self._config
        size, precision = config.eval_batch_size, config.precision
        return check_scores(predict(self.model, self._batches, rows, size, precision, self._world, name))


def load_towers(
    model_config: TwoTowerConfig,
    config: RetrievalTrainerConfig,
    split: Split,
    catalog: Catalog,
    weights: Path,
    world: World,
) -> Towers:
    """Loads trained towers from a folder of weights; the prior is the recent popularity of the rows trained on."""
    model = TwoTower(model_config, split.schema)
    batch_size = min(config.batch_size, split.store.n_rows)
    sharded = shard(model, config.embeddings, config.seed, -(-batch_size // world.size), world)
    load_tensors(weights, sharded.state_dict())
    counts = catalog.recent_positives if config.loss.ignores_impressions else catalog.recent
    model.set_popularity(share_by_id(split, catalog, counts))
    digest = hashlib.sha256()
    for path in sorted(weights.glob("*.distcp")):
        digest.update(path.read_bytes())
    return Towers(model, split, config, digest.hexdigest()[:16], world)
