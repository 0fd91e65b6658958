"""A model that reads all kinds of columns, for tests of table sharding.

Shapes: B rows of a batch.
"""

import torch
from torch import Tensor, nn

from recsys.data.batch import Batch
from recsys.nn.embeddings import PooledEmbeddings, SequenceEmbeddings
from recsys.nn.layers import LogitHead
from recsys.schema.resolved import Schema


class Jagged(nn.Module):
    """Reads a sequence twice: pooled, and as single events."""

    sequences = ("seen",)

    def __init__(self, schema: Schema, embedding_dim: int = 4) -> None:
        super().__init__()
        self.pooled = PooledEmbeddings(schema, embedding_dim, self.sequences, init_std=0.5)
        self.events = SequenceEmbeddings(schema, embedding_dim, self.sequences, init_std=0.5)
        self.head = LogitHead(len(self.pooled.features) * embedding_dim, embedding_dim, len(schema.dense))

    def forward(self, batch: Batch) -> Tensor:
        """[B] logits."""
        events = self.events(batch)["seen"]
        row = torch.repeat_interleave(torch.arange(len(batch), device=events.lengths().device), events.lengths())
        squares = events.values().square()
        summed = squares.new_zeros(len(batch), squares.shape[1]).index_add(0, row, squares)
        return self.head(self.pooled(batch), summed, batch.dense)
