"""The concatenated features of a row, as a network without a structure of fields reads them.

Shapes: B rows of a batch, X width of a row's concatenated inputs.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from recsys.data.batch import Batch
from recsys.nn.embeddings import PooledEmbeddings
from recsys.nn.layers import concat
from recsys.nn.numeric import NumericEmbeddings, build_numeric_embeddings
from recsys.nn.vectors import VectorProjections
from recsys.schema.resolved import Schema


class FlatInputs(nn.Module):
    """Concatenates embeddings, projections of vectors, and other dense columns or their embeddings.

    Args:
        schema: features and table sizes.
        dim: width of an embedding.
        init_std: standard deviation of the initial embeddings.
        numeric_embeddings: how numeric columns enter.
        d_numeric: width of what a numeric column becomes.
        sequences: token sequences to pool.
    """

    def __init__(
        self,
        schema: Schema,
        dim: int,
        init_std: float,
        numeric_embeddings: NumericEmbeddings,
        d_numeric: int,
        sequences: Sequence[str],
    ) -> None:
        super().__init__()
        self.embeddings = PooledEmbeddings(schema, dim, sequences, init_std)
        self.vectors = VectorProjections(schema, dim)
        self.numeric = build_numeric_embeddings(numeric_embeddings, len(self.vectors.others), d_numeric)
        self.d_numbers = len(self.vectors.others) * d_numeric
        """Width of the part of numeric columns, the last one."""
        self.width = (len(self.embeddings.features) + len(self.vectors.names)) * dim + self.d_numbers
        """X."""

    def forward(self, batch: Batch) -> Tensor:
        """Returns the [B, X] inputs."""
        return concat(self.parts(batch))

    def parts(self, batch: Batch) -> list[Tensor]:
        """Returns the embeddings, the projection of each vector, and the [B, d_numbers] numeric columns."""
        numbers_BX = self.numeric(self.vectors.without(batch.dense)).flatten(1)
        return [self.embeddings(batch), *self.vectors(batch.dense), numbers_BX]
