"""Schema -> TorchRec embedding collections: the one place where tables are named and sized.

Tables are named after their vocabulary, features after their column, so that a sharding plan can name either. Models
hold the modules below and read tensors. The tables have no storage until `recsys.distributed.sharding` gives
them some: a table may be larger than any one machine's memory.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import torch
import torch.fx
from torch import Tensor, nn
from torchrec import (
    EmbeddingBagCollection,
    EmbeddingBagConfig,
    EmbeddingCollection,
    EmbeddingConfig,
    JaggedTensor,
    KeyedJaggedTensor,
    KeyedTensor,
    PoolingType,
)

from recsys.data.batch import Batch
from recsys.schema.resolved import Schema

OutputT = TypeVar("OutputT")
_META = torch.device("meta")
_TAKEN = nn.ModuleDict()


def module_name(name: str) -> str:
    """A column's name as torch takes it for a module: without a dot, and none that modules have for themselves (`type`,
    `keys`). Most stay as they are; no two become one.
    """
    quoted = name.replace("%", "%25").replace(".", "%2E")
    return f"{quoted}%" if not quoted or hasattr(_TAKEN, quoted) else quoted


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
        categorical: the categorical features to look up; None for all.
    """

    def __init__(
        self,
        schema: Schema,
        embedding_dim: int,
        sequences: Sequence[str],
        init_std: float,
        categorical: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        single = list(schema.categorical if categorical is None else categorical)
        self.features = [*single, *sequences]
        self.embedding_dim, self.init_std = embedding_dim, init_std
        self.ids = _SelectIds(single, list(sequences))
        self.collection = EmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=module_name(table),
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
        if not self.features:
            return batch.dense[:, :0]
        return _side_by_side(self.collection(self.ids(batch.sparse, batch.sequences)), self.features)


class SequenceEmbeddings(Embeddings[dict[str, JaggedTensor]]):
    """One vector per event of each token sequence, from an EmbeddingCollection for each table.

    Args:
        schema: names the features and sizes the tables.
        embedding_dim: D.
        sequences: the token sequences to look up.
        init_std: of the normal distribution that fresh embeddings are drawn from.
        categorical: categorical features to look up too, as sequences of one: an item that is to be compared with those
            of a sequence stands in the same table.
    """

    def __init__(
        self,
        schema: Schema,
        embedding_dim: int,
        sequences: Sequence[str],
        init_std: float,
        categorical: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.init_std = init_std
        self.tables = nn.ModuleDict()
        for table, features in _tables(schema, [*categorical, *sequences]).items():
            single = [feature for feature in features if feature in categorical]
            tokens = [feature for feature in features if feature not in categorical]
            name = module_name(table)
            self.tables[name] = _SequenceTable(name, embedding_dim, schema.num_embeddings[table], single, tokens)

    def look_up(self, batch: Batch) -> dict[str, JaggedTensor]:
        """By feature, its events' [total, D] vectors end to end, with their lengths."""
        return _in_one([table(batch.sparse, batch.sequences) for table in self.tables.values()])


class _SequenceTable(nn.Module):
    """The table of one vocabulary, and the features that read it."""

    def __init__(
        self, name: str, embedding_dim: int, num_embeddings: int, categorical: list[str], sequences: list[str]
    ) -> None:
        super().__init__()
        self.name = name
        self.ids = _SelectIds(categorical, sequences)
        config = EmbeddingConfig(
            name=name,
            embedding_dim=embedding_dim,
            num_embeddings=num_embeddings,
            feature_names=[*categorical, *sequences],
        )
        self.collection = EmbeddingCollection(tables=[config], device=_META)

    def forward(self, sparse: KeyedJaggedTensor, sequences: KeyedJaggedTensor) -> dict[str, JaggedTensor]:
        """The events of each sequence."""
        ids = self.ids(sparse, sequences)
        if isinstance(self.collection, EmbeddingCollection):  # a copy on every process
            return _look_up_copy(self.collection.embeddings[self.name].weight, ids)
        return self.collection(ids)


class _SelectIds(nn.Module):
    """The ids that a collection reads: a module, so that TorchRec's pipeline finds it and runs it a batch ahead."""

    def __init__(self, categorical: list[str], sequences: list[str]) -> None:
        super().__init__()
        self._categorical, self._sequences = categorical, sequences

    def forward(self, sparse: KeyedJaggedTensor, sequences: KeyedJaggedTensor) -> KeyedJaggedTensor:
        """The categorical features, then the sequences."""
        return _select(sparse, self._categorical, sequences, self._sequences)


def _select_unweighted(jagged: KeyedJaggedTensor, names: list[str]) -> KeyedJaggedTensor:
    """The named keys, without weights."""
    if list(jagged.keys()) == names and jagged.weights_or_none() is None:
        return jagged
    parts = [jagged[name] for name in names]
    return KeyedJaggedTensor(
        keys=names,
        values=torch.cat([part.values() for part in parts]),
        lengths=torch.cat([part.lengths() for part in parts]),
        stride=jagged.stride(),
    )


# The functions below are opaque to torch.fx, by which TorchRec's pipeline finds the collections of a model.


@torch.fx.wrap
def _select(
    sparse: KeyedJaggedTensor, categorical: list[str], sequences: KeyedJaggedTensor, names: list[str]
) -> KeyedJaggedTensor:
    chosen = ((sparse, categorical), (sequences, names))
    parts = [_select_unweighted(jagged, wanted) for jagged, wanted in chosen if wanted]
    return parts[0] if len(parts) == 1 else KeyedJaggedTensor.concat(parts)


@torch.fx.wrap
def _side_by_side(pooled: KeyedTensor, features: list[str]) -> Tensor:
    if list(pooled.keys()) == features:
        return pooled.values()
    return torch.cat([pooled[name] for name in features], dim=1)


@torch.fx.wrap
def _in_one(found: Sequence[Mapping[str, JaggedTensor]]) -> dict[str, JaggedTensor]:
    return {name: jagged for part in found for name, jagged in part.items()}


@torch.fx.wrap
def _look_up_copy(weight: Tensor, sequences: KeyedJaggedTensor) -> dict[str, JaggedTensor]:
    """What the collection's forward gives, three times as fast in the backward pass as nn.Embedding's on a CPU."""
    found = {}
    for name in sequences.keys():  # noqa: SIM118 (a KeyedJaggedTensor does not iterate)
        ids = sequences[name]
        found[name] = JaggedTensor(weight.index_select(0, ids.values()), lengths=ids.lengths())
    return found
