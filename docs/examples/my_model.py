"""A model of one's own: a factorization machine, logit = b + w.x + the sum of v_i.v_j over pairs of features.

Source: Rendle, "Factorization machines", ICDM 2010.

Shapes: B rows of a batch, F categorical features, D width of an embedding, N numeric columns.
"""

from pydantic import Field
from torch import Tensor, nn

from ranking.model_config import DeepModelConfig
from recsys.data.batch import Batch
from recsys.nn.embeddings import PooledEmbeddings
from recsys.nn.layers import LogitHead
from recsys.schema.resolved import Schema


class MyConfig(DeepModelConfig):
    """The keys of the section `model`."""

    embedding_dim: int = Field(default=16, ge=1)
    """Width of an embedding."""


class MyModel(nn.Module):
    """A factorization machine on the embeddings of categorical features, with a linear part on numeric columns."""

    Config = MyConfig
    sequences = ()
    fixed_shapes = True

    def __init__(self, config: MyConfig, schema: Schema) -> None:
        super().__init__()
        self.embeddings = PooledEmbeddings(schema, config.embedding_dim, self.sequences, init_std=0.05)
        self.n_features, self.width = len(self.embeddings.features), config.embedding_dim
        self.linear = LogitHead(self.n_features * self.width, len(schema.dense))

    def forward(self, batch: Batch) -> Tensor:
        """Returns [B] logits."""
        x_BX = self.embeddings(batch)
        x_BFD = x_BX.view(-1, self.n_features, self.width)
        pairs_B = (x_BFD.sum(1).square() - x_BFD.square().sum(1)).sum(1) / 2
        return self.linear(x_BX, batch.dense) + pairs_B
