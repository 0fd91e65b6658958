"""Schema -> TorchRec embedding collections: the one place where tables are named and sized.

Tables are named after their vocabulary, features after their column, so that a sharding plan can name either. Models
hold the modules below and read tensors. The tables have no storage until `recsys.sharding` gives them some: a table may
be larger than any one machine's memory.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torchrec import (
    EmbeddingBagCollection,
    EmbeddingBagConfig,
    EmbeddingCollection,
    EmbeddingConfig,
    JaggedTensor,
    KeyedJaggedTensor,
    PoolingType,
)

from recsys.batch import Batch
from recsys.schema import Schema

OutputT = TypeVar("OutputT")
_META = torch.device("meta")


def _tables(schema: Schema, features: Sequence[str]) -> dict[str, list[str]]:
    """The wanted features of each table that serves any."""
    tables = {name: [f for f in shared if f in features] for name, shared in schema.vocabularies.items()}
    return {name: wanted for name, wanted in tables.items() if wanted}


class Embeddings(nn.Module, Generic[OutputT]):
    """What models hold to look ids up.

    A training step looks the ids of a whole batch up once and then works through it in parts: while `given` is set,
    forward returns it in place of a look-up.
    """

    init_std: float
    """Of the normal distribution that fresh embeddings are drawn from."""

    def __init__(self) -> None:
        super().__init__()
        self.given: OutputT | None = None

    @abstractmethod
    def look_up(self, batch: Batch) -> OutputT:
        """The embeddings of a batch."""

    def forward(self, batch: Batch) -> OutputT:
        """`look_up`, or what was given in its place."""
        return self.look_up(batch) if self.given is None else self.given


class PooledEmbeddings(Embeddings[Tensor]):
    """One vector per categorical feature and per mean-pooled token sequence, from an EmbeddingBagCollection.

    Args:
        schema: names the features and sizes the tables.
        embedding_dim: D.
        sequences: the token sequences to pool; an empty one pools to zeros.
        init_std: of the normal distribution that fresh embeddings are drawn from.
    """

    def __init__(self, schema: Schema, embedding_dim: int, sequences: Sequence[str], init_std: float) -> None:
        super().__init__()
        self.features = [*schema.categorical, *sequences]
        self.embedding_dim, self.init_std = embedding_dim, init_std
        self._sequences = list(sequences)
        self.collection = EmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=table,
                    embedding_dim=embedding_dim,
                    num_embeddings=schema.num_embeddings[table],
                    feature_names=features,
                    pooling=PoolingType.MEAN if set(features) & set(sequences) else PoolingType.SUM,
                )
                for table, features in _tables(schema, self.features).items()
            ],
            device=_META,
        )

    def look_up(self, batch: Batch) -> Tensor:
        """[B, F * D] embeddings, feature after feature in the order of `features`."""
        parts = [batch.sparse] if len(batch.sparse.keys()) else []
        if self._sequences:
            parts.append(select_unweighted(batch.sequences, self._sequences))
        pooled = self.collection(parts[0] if len(parts) == 1 else KeyedJaggedTensor.concat(parts))
        if list(pooled.keys()) == self.features:
            return pooled.values()
        return torch.cat([pooled[name] for name in self.features], dim=1)


class SequenceEmbeddings(Embeddings[dict[str, JaggedTensor]]):
    """One vector per event of each token sequence, from an EmbeddingCollection for each table.

    Args:
        schema: names the features and sizes the tables.
        embedding_dim: D.
        sequences: the token sequences to look up.
        init_std: of the normal distribution that fresh embeddings are drawn from.
    """

    def __init__(self, schema: Schema, embedding_dim: int, sequences: Sequence[str], init_std: float) -> None:
        super().__init__()
        self.init_std = init_std
        self._features = _tables(schema, sequences)
        self.collections = nn.ModuleDict()
        for table, features in self._features.items():
            config = EmbeddingConfig(
                name=table,
                embedding_dim=embedding_dim,
                num_embeddings=schema.num_embeddings[table],
                feature_names=features,
            )
            self.collections[table] = EmbeddingCollection(tables=[config], device=_META)

    def look_up(self, batch: Batch) -> dict[str, JaggedTensor]:
        """By sequence, its events' [total, D] vectors end to end, with their lengths."""
        found: dict[str, JaggedTensor] = {}
        for table, collection in self.collections.items():
            sequences = select_unweighted(batch.sequences, self._features[table])
            if isinstance(collection, EmbeddingCollection):  # a copy on every process
                found |= _look_up_copy(collection.embeddings[table].weight, sequences)
            else:
                found |= dict(collection(sequences).items())
        return found


def _look_up_copy(weight: Tensor, sequences: KeyedJaggedTensor) -> dict[str, JaggedTensor]:
    """What the collection's forward gives, three times as fast in the backward pass as nn.Embedding's on a CPU."""
    return {
        name: JaggedTensor(weight.index_select(0, ids.values()), lengths=ids.lengths())
        for name, ids in sequences.to_dict().items()
    }


def select_unweighted(sequences: KeyedJaggedTensor, names: list[str]) -> KeyedJaggedTensor:
    """The named sequences of a KeyedJaggedTensor, without weights."""
    if list(sequences.keys()) == names and sequences.weights_or_none() is None:
        return sequences
    parts = [sequences[name] for name in names]
    return KeyedJaggedTensor(
        keys=names,
        values=torch.cat([part.values() for part in parts]),
        lengths=torch.cat([part.lengths() for part in parts]),
        stride=sequences.stride(),
    )
