"""Models with storage for their tables, as training gives them."""

from typing import TypeVar

from torch import nn

from recsys.distributed.config import EmbeddingTraining
from recsys.distributed.sharding import shard
from recsys.system.world import join_world

ModelT = TypeVar("ModelT", bound=nn.Module)


def with_tables(model: ModelT, **embeddings: object) -> ModelT:
    """The model with storage for its tables, as training gives it."""
    shard(model, EmbeddingTraining.model_validate(embeddings), seed=0, batch_size=100, world=join_world())
    return model
