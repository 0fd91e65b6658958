"""The concatenated features of a row, as a network without a structure of fields reads them.

Shapes: B rows of a batch, X width of a row's concatenated inputs.
"""

from typing import Protocol

from torch import Tensor, nn

from recsys.data.batch import Batch
from recsys.nn.embeddings import PooledEmbeddings
from recsys.nn.layers import concat
from recsys.nn.numeric import NumericEmbeddings, build_numeric_embeddings
from recsys.nn.vectors import VectorProjections
from recsys.schema.resolved import Schema


class FlatSettings(Protocol):
    """The settings of a model that `FlatInputs` reads."""

    @property
    def embedding_dim(self) -> int:
        """Width of an embedding."""
        ...

    @property
    def embedding_init_std(self) -> float:
        """Standard deviation of the initial embeddings."""
        ...

    @property
    def numeric_embeddings(self) -> NumericEmbeddings:
        """How numeric columns enter."""
        ...

    @property
    def d_numeric(self) -> int:
        """Width of what a numeric column becomes."""
        ...

    @property
    def pool_sequences(self) -> bool:
        """Whether the mean embedding of each token sequence is an input."""
        ...


class FlatInputs(nn.Module):
    """Concatenates embeddings, projections of vectors, and other dense columns or their embeddings.

    Args:
        config: settings of the model.
        schema: features and table sizes.
    """

    def __init__(self, config: FlatSettings, schema: Schema) -> None:
        super().__init__()
        self.sequences = tuple(s.name for s in schema.token_sequences) if config.pool_sequences else ()
        """The token sequences that are pooled."""
        dim, d_numeric = config.embedding_dim, config.d_numeric
        self.embeddings = PooledEmbeddings(schema, dim, self.sequences, config.embedding_init_std)
        self.vectors = VectorProjections(schema, dim)
        self.numeric = build_numeric_embeddings(config.numeric_embeddings, len(self.vectors.others), d_numeric)
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
