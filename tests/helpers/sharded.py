"""Allocates the embedding tables of a model, as training does."""

from typing import TypeVar

from torch import nn

from recsys.distributed.config import EmbeddingTraining
from recsys.distributed.sharding import shard
from recsys.system.world import join_world

ModelT = TypeVar("ModelT", bound=nn.Module)


def with_tables(model: ModelT, **embeddings: object) -> ModelT:
    """Allocates the model's embedding tables; returns the model."""
    shard(model, EmbeddingTraining.model_validate(embeddings), seed=0, batch_size=100, world=join_world())
    return model
