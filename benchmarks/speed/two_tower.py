"""Two towers in the speed contest: ours, and as one writes them first in PyTorch."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from benchmarks.speed.contest import Arrays, Score, Task, load, private_gib
from benchmarks.speed.plain_models import mlp, start_tables
from recsys.schema.resolved import Schema
from recsys.system.allocator import keep_freed_memory
from recsys.system.world import join_world
from recsys.training.log import Log
from retrieval.catalog import build_catalog
from retrieval.config import RetrievalTrainerConfig
from retrieval.fit import build_retrieval_trainer
from retrieval.objective import share_by_id
from retrieval.two_tower import TwoTowerConfig, tower_features


def settings_of(task: Task) -> tuple[TwoTowerConfig, RetrievalTrainerConfig]:
    """The towers' sizes, and how they are trained: every row is a hit here."""
    return TwoTowerConfig.model_validate(task.model), RetrievalTrainerConfig.model_validate(task.trainer)


def ours(task: Task) -> Score:
    """The trainer that every pipeline uses."""
    keep_freed_memory()
    model, config = settings_of(task)
    split, _ = task.open()
    catalog, world = build_catalog(split, split.fit_rows, [], True), join_world()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(world.broadcast(folder)) / "weights"
        trainer = build_retrieval_trainer(
            model, config, "all", split, split.fit_rows, catalog, None, weights, Log(), world, "ours"
        )
        report = trainer.fit()
        world.broadcast(None)
    epochs = report.progress.epochs
    seconds = sum(epoch.seconds for epoch in epochs)
    waiting = sum(epoch.waited_s for epoch in epochs) / seconds
    return Score(report.n_rows * len(epochs) / seconds, waiting, private_gib=private_gib())


class PlainTowers(nn.Module):
    """An nn.Embedding per column, padded sequences averaged, two MLPs, cosines."""

    def __init__(self, config: TwoTowerConfig, schema: Schema) -> None:
        super().__init__()
        user, item = tower_features(schema, ("user", "context")), tower_features(schema, ("item",))
        dim, sizes = config.embedding_dim, schema.num_embeddings
        place = schema.categorical.index
        self.places = [[place(name) for name in features.categorical] for features in (user, item)]
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
        """[B, d] unit vectors of requests and of items."""
        user_tables, item_tables = self.tables
        of_user = [table(ids[:, place]) for table, place in zip(user_tables, self.places[0], strict=True)]
        of_item = [table(ids[:, place]) for table, place in zip(item_tables, self.places[1], strict=True)]
        for number, table in zip(self.sequences, self.tokens, strict=True):
            tokens = sequences[2 * number]
            of_user.append(table(tokens).sum(dim=1) / (tokens > 0).sum(dim=1, keepdim=True).clamp(min=1))
        user = self.towers[0](torch.cat([*of_user, dense[:, self.dense]], dim=1))
        item = self.towers[1](torch.cat(of_item, dim=1))
        return functional.normalize(user, dim=1), functional.normalize(item, dim=1)


def plain(task: Task) -> Score:
    """Plain PyTorch: float32, torch.optim.AdamW on everything, a DataLoader with workers, the same loss."""
    from benchmarks.speed.contest import Batches  # which imports this file

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
            user, items = model(ids, dense, *sequences)
            item = ids[:, target]
            logits = model.log_scale.exp() * user @ items.T - (log_share[item] + np.log(len(item)))
            is_hit = (item[:, None] == item[None, :]).fill_diagonal_(False)
            own = logits.diagonal() + log_share[item] + np.log(len(item))
            logits = torch.diagonal_scatter(logits.masked_fill(is_hit, -torch.inf), own)
            functional.cross_entropy(logits, torch.arange(len(item))).backward()
            optimizer.step()
    seconds = time.perf_counter() - start
    return Score(len(arrays) * settings.epochs / seconds, private_gib=private_gib())
