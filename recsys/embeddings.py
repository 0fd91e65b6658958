"""Schema -> TorchRec embedding collections: the one place where tables are named, sized and initialised.

Tables are named after their vocabulary, features after their column, so that a sharding plan can name either. Models
hold the modules below and read tensors; whether the collection inside is plain or sharded is no concern of theirs.
"""

from collections.abc import Callable, Sequence
from functools import partial

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


def _init(std: float) -> Callable[[Tensor], Tensor | None]:
    return partial(nn.init.normal_, mean=0.0, std=std)


def _tables(schema: Schema, features: Sequence[str]) -> dict[str, list[str]]:
    """The wanted features of each table that serves any."""
    tables = {name: [f for f in shared if f in features] for name, shared in schema.vocabularies.items()}
    return {name: wanted for name, wanted in tables.items() if wanted}


class PooledEmbeddings(nn.Module):
    """One vector per categorical feature and per mean-pooled token sequence, from an EmbeddingBagCollection.

    Args:
        schema: names the features and sizes the tables.
        embedding_dim: D.
        sequences: the token sequences to pool; an empty one pools to zeros.
        init_std: of the normal distribution that fresh embeddings are drawn from.
        device: where the tables are made; `meta` makes none.
    """

    def __init__(
        self,
        schema: Schema,
        embedding_dim: int,
        sequences: Sequence[str],
        init_std: float,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self.features = [*schema.categorical, *sequences]
        self.embedding_dim = embedding_dim
        self._sequences = list(sequences)
        self.collection = EmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=table,
                    embedding_dim=embedding_dim,
                    num_embeddings=schema.num_embeddings[table],
                    feature_names=features,
                    pooling=PoolingType.MEAN if set(features) & set(sequences) else PoolingType.SUM,
                    init_fn=_init(init_std),
                )
                for table, features in _tables(schema, self.features).items()
            ],
            device=device,
        )

    def forward(self, batch: Batch) -> Tensor:
        """[B, F * D] embeddings, feature after feature in the order of `features`."""
        parts = [batch.sparse] if len(batch.sparse.keys()) else []
        if self._sequences:
            parts.append(select_unweighted(batch.sequences, self._sequences))
        features = parts[0] if len(parts) == 1 else KeyedJaggedTensor.concat(parts)
        pooled = self.collection(features)
        return torch.cat([pooled[name] for name in self.features], dim=1)


class SequenceEmbeddings(nn.Module):
    """One vector per event of each token sequence, from an EmbeddingCollection.

    Args:
        schema: names the features and sizes the tables.
        embedding_dim: D.
        sequences: the token sequences to look up.
        init_std: of the normal distribution that fresh embeddings are drawn from.
        device: where the tables are made; `meta` makes none.
    """

    def __init__(
        self,
        schema: Schema,
        embedding_dim: int,
        sequences: Sequence[str],
        init_std: float,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self._sequences = list(sequences)
        self.collection = EmbeddingCollection(
            tables=[
                EmbeddingConfig(
                    name=table,
                    embedding_dim=embedding_dim,
                    num_embeddings=schema.num_embeddings[table],
                    feature_names=features,
                    init_fn=_init(init_std),
                )
                for table, features in _tables(schema, self._sequences).items()
            ],
            device=device,
        )

    def forward(self, batch: Batch) -> dict[str, JaggedTensor]:
        """By sequence, its events' [total, D] vectors end to end, with their lengths."""
        return self.collection(select_unweighted(batch.sequences, self._sequences))


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
