"""Builds TorchRec embedding collections from a schema; only this module names and sizes tables.

A table has the name of its vocabulary, a feature the name of its column, and sharding plans use these names. Models
hold the modules below and receive tensors. The tables have no storage until `recsys.distributed.sharding` allocates
it: a table may be larger than the memory of one machine.

Shapes: B rows of a batch, F features, T events of all rows, D embedding width.
"""

import itertools
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
from recsys.nn.jagged import gather_rows
from recsys.schema.resolved import Schema

OutputT = TypeVar("OutputT")
_META = torch.device("meta")
_MODULE_DICT = nn.ModuleDict()  # names of its attributes cannot name a module


def module_name(name: str) -> str:
    """Converts a column name to a valid name of a torch module: without dots, and not an attribute of modules (`type`,
    `keys`). Most names stay the same; distinct names stay distinct.
    """
    quoted = name.replace("%", "%25").replace(".", "%2E")
    return f"{quoted}%" if not quoted or hasattr(_MODULE_DICT, quoted) else quoted


def _tables(schema: Schema, features: Sequence[str]) -> dict[str, list[str]]:
    """The requested features of each table; tables without any are left out."""
    tables = {name: [f for f in columns if f in features] for name, columns in schema.vocabularies.items()}
    return {name: requested for name, requested in tables.items() if requested}


class Embeddings(nn.Module, Generic[OutputT]):
    """Base class of a model's embedding look-ups.

    A training step looks up the ids of a whole batch once and then processes it in micro-batches: while `given` is set,
    forward returns it instead of a look-up.
    """

    init_std: float
    """Standard deviation of the normal distribution of the initial embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.given: OutputT | None = None

    @abstractmethod
    def look_up(self, batch: Batch) -> OutputT:
        """Looks up the embeddings of a batch."""

    def forward(self, batch: Batch) -> OutputT:
        """Returns `given` if it is set, else `look_up(batch)`."""
        return self.look_up(batch) if self.given is None else self.given


class PooledEmbeddings(Embeddings[Tensor]):
    """One vector per categorical feature and per mean-pooled token sequence, by an EmbeddingBagCollection.

    Args:
        schema: feature names and table sizes.
        embedding_dim: D.
        sequences: token sequences to pool; an empty sequence gives zeros.
        init_std: standard deviation of the initial embeddings.
        categorical: categorical features to look up; None for all.
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
        """[B, F * D] embeddings, concatenated in the order of `features`."""
        if not self.features:
            return batch.dense[:, :0]
        return _concat_features(self.collection(self.ids(batch.sparse, batch.sequences)), self.features)


class SequenceEmbeddings(Embeddings[dict[str, JaggedTensor]]):
    """One vector per event of each token sequence, by one EmbeddingCollection per table.

    Args:
        schema: feature names and table sizes.
        embedding_dim: D.
        sequences: token sequences to look up.
        init_std: standard deviation of the initial embeddings.
        categorical: categorical features to look up as sequences of length one, for example the candidate item that
            is compared with the items of a sequence from the same table.
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
        """[T, D] vectors of each feature's events, with the lengths of its rows, by feature name."""
        return _merge([table(batch.sparse, batch.sequences) for table in self.tables.values()])


class _SequenceTable(nn.Module):
    """The embedding table of one vocabulary, with the features that use it."""

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
        """[T, D] vectors of each feature's events, by feature name."""
        ids = self.ids(sparse, sequences)
        if isinstance(self.collection, EmbeddingCollection):  # replicated on every process
            return _look_up_replicated(self.collection.embeddings[self.name].weight, ids)
        return self.collection(ids)


class _SelectIds(nn.Module):
    """Selects the ids of a collection. A module, so that TorchRec's pipeline can run it one batch ahead."""

    def __init__(self, categorical: list[str], sequences: list[str]) -> None:
        super().__init__()
        self._categorical, self._sequences = categorical, sequences

    def forward(self, sparse: KeyedJaggedTensor, sequences: KeyedJaggedTensor) -> KeyedJaggedTensor:
        """The ids of the categorical features, then of the sequences."""
        return _select(sparse, self._categorical, sequences, self._sequences)


def _select_unweighted(jagged: KeyedJaggedTensor, names: list[str]) -> KeyedJaggedTensor:
    """Selects keys by name, without weights."""
    if list(jagged.keys()) == names and jagged.weights_or_none() is None:
        return jagged
    features = [jagged[name] for name in names]
    sizes = [len(feature.values()) for feature in features]
    return KeyedJaggedTensor(
        keys=names,
        values=torch.cat([feature.values() for feature in features]),
        lengths=torch.cat([feature.lengths() for feature in features]),
        stride=jagged.stride(),
        length_per_key=sizes,
        offset_per_key=[0, *itertools.accumulate(sizes)],
    )


# torch.fx, with which TorchRec's pipeline finds a model's collections, does not trace the functions below.


@torch.fx.wrap
def _select(
    sparse: KeyedJaggedTensor, categorical: list[str], sequences: KeyedJaggedTensor, names: list[str]
) -> KeyedJaggedTensor:
    sources = ((sparse, categorical), (sequences, names))
    selected = [_select_unweighted(jagged, keys) for jagged, keys in sources if keys]
    return selected[0] if len(selected) == 1 else _concat(selected)


def _concat(parts: Sequence[KeyedJaggedTensor]) -> KeyedJaggedTensor:
    """Concatenates the keys and keeps the known numbers of ids, which TorchRec's function makes the device count."""
    sizes = [size for part in parts for size in part.length_per_key()]
    return KeyedJaggedTensor(
        keys=[key for part in parts for key in part.keys()],  # noqa: SIM118 (a KeyedJaggedTensor does not iterate)
        values=torch.cat([part.values() for part in parts]),
        lengths=torch.cat([part.lengths() for part in parts]),
        stride=parts[0].stride(),
        length_per_key=sizes,
        offset_per_key=[0, *itertools.accumulate(sizes)],
    )


@torch.fx.wrap
def _concat_features(pooled: KeyedTensor, features: list[str]) -> Tensor:
    if list(pooled.keys()) == features:
        return pooled.values()
    return torch.cat([pooled[name] for name in features], dim=1)


@torch.fx.wrap
def _merge(tables: Sequence[Mapping[str, JaggedTensor]]) -> dict[str, JaggedTensor]:
    return {name: jagged for table in tables for name, jagged in table.items()}


@torch.fx.wrap
def _look_up_replicated(weight: Tensor, sequences: KeyedJaggedTensor) -> dict[str, JaggedTensor]:
    """Same result as the collection's forward; on a CPU the backward pass is 3 times as fast as nn.Embedding's."""
    embeddings = {}
    for name in sequences.keys():  # noqa: SIM118 (a KeyedJaggedTensor does not iterate)
        ids = sequences[name]
        embeddings[name] = JaggedTensor(gather_rows(weight, ids.values()), lengths=ids.lengths())
    return embeddings
