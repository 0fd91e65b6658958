"""Two-tower contenders of the speed contest: ours, and straightforward PyTorch.

Shapes: B rows of a batch, F categorical features, N numeric columns, L padded events, D output width.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from benchmarks.speed.contest import Arrays, Batches, Score, Task, load, private_gib
from benchmarks.speed.plain_models import mlp, start_tables
from recsys.schema.resolved import Schema
from recsys.system.allocator import keep_freed_memory
from recsys.system.world import join_world
from recsys.training.log import Log
from retrieval.catalog import build_catalog
from retrieval.config import RetrievalTrainerConfig
from retrieval.fit import build_retrieval_trainer
from retrieval.objective import share_by_id
from retrieval.tower_features import tower_features
from retrieval.two_tower import TwoTowerConfig


def settings_of(task: Task) -> tuple[TwoTowerConfig, RetrievalTrainerConfig]:
    """The configs of the towers and of the trainer."""
    return TwoTowerConfig.model_validate(task.model), RetrievalTrainerConfig.model_validate(task.trainer)


def ours(task: Task) -> Score:
    """Trains with this project's retrieval trainer."""
    keep_freed_memory()
    model, config = settings_of(task)
    split, _ = task.open()
    catalog, world = build_catalog(split, split.fit_rows, [], True), join_world()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(world.broadcast(folder)) / "weights"
        trainer = build_retrieval_trainer(
            model, config, "all", split, split.fit_rows, catalog, None, None, weights, Log(), world, "ours"
        )
        report = trainer.fit()
        world.broadcast(None)
    epochs = report.progress.epochs
    seconds = sum(epoch.seconds for epoch in epochs)
    waiting = sum(epoch.waited_s for epoch in epochs) / seconds
    return Score(report.n_rows * len(epochs) / seconds, waiting, private_gib=private_gib())


class PlainTowers(nn.Module):
    """An nn.Embedding per column, mean-pooled padded sequences, two MLPs, normalized outputs."""

    def __init__(self, config: TwoTowerConfig, schema: Schema) -> None:
        super().__init__()
        user, item = tower_features(schema, ("user", "context")), tower_features(schema, ("item",))
        dim, sizes = config.embedding_dim, schema.num_embeddings
        index_of = schema.categorical.index
        self.column_indices = [[index_of(name) for name in features.categorical] for features in (user, item)]
        self.tables: Any = nn.ModuleList(
            nn.ModuleList(nn.Embedding(sizes[name], dim) for name in features.categorical) for features in (user, item)
        )
        names = [sequence.name for sequence in schema.token_sequences]
        self.sequences = [names.index(name) for name in user.tokens]
        vocabularies = [schema.token_sequences[number].vocabulary for number in self.sequences]
        self.tokens = nn.ModuleList(nn.Embedding(sizes[name] + 1, dim, padding_idx=0) for name in vocabularies)
        start_tables(self, config.embedding_init_std)
        self.dense = list(user.dense)
        widths = ((len(user.categorical) + len(user.tokens)) * dim + len(self.dense), len(item.categorical) * dim)
        dims = (config.user_hidden_dims, config.item_hidden_dims)
        self.towers = nn.ModuleList(
            nn.Sequential(mlp(width, hidden, config.dropout, False), nn.Linear(hidden[-1], config.output_dim))
            for width, hidden in zip(widths, dims, strict=True)
        )
        self.log_scale = nn.Parameter(torch.tensor(-float(np.log(config.temperature))))

    def forward(self, ids: Tensor, dense: Tensor, *sequences: Tensor) -> tuple[Tensor, Tensor]:
        """[B, F] ids, [B, N] dense and [B, L] sequences to [B, D] unit vectors of requests and of items."""
        user_tables, item_tables = self.tables
        user_columns, item_columns = self.column_indices
        user_embeddings = [table(ids[:, column]) for table, column in zip(user_tables, user_columns, strict=True)]
        item_embeddings = [table(ids[:, column]) for table, column in zip(item_tables, item_columns, strict=True)]
        for number, table in zip(self.sequences, self.tokens, strict=True):
            tokens = sequences[2 * number]
            user_embeddings.append(table(tokens).sum(dim=1) / (tokens > 0).sum(dim=1, keepdim=True).clamp(min=1))
        user = self.towers[0](torch.cat([*user_embeddings, dense[:, self.dense]], dim=1))
        item = self.towers[1](torch.cat(item_embeddings, dim=1))
        return functional.normalize(user, dim=1), functional.normalize(item, dim=1)


def plain(task: Task) -> Score:
    """Trains with plain PyTorch: float32, AdamW for all parameters, a DataLoader with workers, the same loss."""

    config, settings = settings_of(task)
    split, _ = task.open()
    arrays: Arrays = load(split, split.fit_rows, [s.name for s in split.schema.token_sequences])
    catalog = build_catalog(split, split.fit_rows, [], True)
    log_share = share_by_id(split, catalog, catalog.n_impressions).log()
    target = split.schema.categorical.index(str(split.schema.target_item))
    torch.manual_seed(settings.seed)
    model = PlainTowers(config, split.schema)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    sampler = BatchSampler(RandomSampler(range(len(arrays))), settings.batch_size, drop_last=False)
    loader = DataLoader(Batches(arrays), batch_size=None, sampler=sampler, num_workers=2)
    model.train()
    start = time.perf_counter()
    for _ in range(settings.epochs):
        for _, ids, dense, *sequences in loader:
            optimizer.zero_grad()
            user, item = model(ids, dense, *sequences)
            item_ids = ids[:, target]
            logits = model.log_scale.exp() * user @ item.T - (log_share[item_ids] + np.log(len(item_ids)))
            is_accidental_hit = (item_ids[:, None] == item_ids[None, :]).fill_diagonal_(False)
            positive_logits = logits.diagonal() + log_share[item_ids] + np.log(len(item_ids))
            logits = torch.diagonal_scatter(logits.masked_fill(is_accidental_hit, -torch.inf), positive_logits)
            functional.cross_entropy(logits, torch.arange(len(item_ids))).backward()
            optimizer.step()
    seconds = time.perf_counter() - start
    return Score(len(arrays) * settings.epochs / seconds, private_gib=private_gib())
