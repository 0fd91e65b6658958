"""Two towers: a request (a user in a context) and an item become vectors whose inner product is their match."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torchrec import JaggedTensor

from recsys.config import StrictModel
from recsys.data.batch import Batch
from recsys.errors import InputError
from recsys.nn.embeddings import PooledEmbeddings, SequenceEmbeddings
from recsys.nn.jagged import row_of_event
from recsys.nn.layers import MLP, concat
from recsys.schema.config import TowerName
from recsys.schema.resolved import Schema
from retrieval.pooling import CausalConfig, CausalEncoder, pool_sequence

Pooling = Literal["mean", "attention", "last", "causal"]


class TwoTowerConfig(StrictModel):
    """Sizes of a two-tower model."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"ad_hidden_dims": "item_hidden_dims"}

    name: Literal["two_tower"] = "two_tower"
    embedding_dim: int = Field(default=32, ge=1)
    embedding_init_std: float = Field(default=0.05, gt=0)
    output_dim: int = Field(default=64, ge=1)
    """Width of the vectors that are compared."""
    user_hidden_dims: tuple[int, ...] = (256, 128)
    item_hidden_dims: tuple[int, ...] = (128,)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    pooling: Pooling = "mean"
    """How the user's token sequences become one vector each. causal: self-attention over the one sequence that shares
    the target item's table; every step of it is a prediction of the next one, and is trained as one."""
    causal: CausalConfig = CausalConfig()
    temperature: float = Field(default=0.05, gt=0)
    """What cosines are divided by at first; it is learned."""
    popularity_prior: bool = True
    """Adds ln of an item's popularity to its logits, so that the towers learn what goes beyond it."""


@dataclass(frozen=True)
class TowerFeatures:
    """The features of some towers, by kind."""

    categorical: tuple[str, ...]
    tokens: tuple[str, ...]
    """Token sequences."""
    dense: tuple[int, ...]
    """Columns of `Batch.dense`: numeric ones, and missing indicators that speak of them."""
    steps: dict[str, int]
    """Groups of columns that are no numeric features, and their widths: read as dense values."""

    @property
    def width(self) -> int:
        """Dense values."""
        return len(self.dense) + sum(self.steps.values())


def tower_features(schema: Schema, towers: Sequence[TowerName]) -> TowerFeatures:
    """Sorts the features of some towers by kind."""
    names = {name for tower in towers for name in schema.towers.get(tower, ())}
    numeric = set(schema.numeric)
    # an indicator belongs to the tower of the first column that it speaks for
    columns = (*schema.numeric, *(columns[0] for columns in schema.missing_indicators))
    dense = [index for index, column in enumerate(columns) if column in names]
    return TowerFeatures(
        categorical=tuple(name for name in schema.categorical if name in names),
        tokens=tuple(s.name for s in schema.token_sequences if s.name in names),
        dense=tuple(dense),
        steps={
            s.name: len(s.columns)
            for s in schema.column_sequences
            if s.name in names and not numeric.issuperset(s.columns)
        },
    )


class _DenseValues(nn.Module):
    """The dense inputs of a tower."""

    columns: Tensor

    def __init__(self, features: TowerFeatures) -> None:
        super().__init__()
        self.register_buffer("columns", torch.tensor(features.dense, dtype=torch.int64), persistent=False)
        self._steps = features.steps

    def forward(self, batch: Batch, n_rows: int) -> Tensor:
        """[n_rows, N]: numbers, and the values of groups of columns with 0 where they are null."""
        parts = [batch.dense[:n_rows].index_select(1, self.columns)]
        for name, width in self._steps.items():
            found = batch.sequences[name]
            row_T = row_of_event(found.lengths()[:n_rows], len(found.values()))
            values = batch.dense.new_zeros(n_rows, width)
            parts.append(values.index_put((row_T, found.values().long()), found.weights()))
        return torch.cat(parts, dim=1)


class TwoTower(nn.Module):
    """logit = cos(user(request), item(item)) / T + prior(item), where the prior is ln of the item's popularity, or 0.

    The vectors have one place more than the cosine needs, 1 for a request and T prior for an item, so that an inner
    product ranks by the whole logit.

    Batches may end with rows that are items alone (see `retrieval.negatives`): the user's part of them is empty.

    Args:
        config: sizes.
        schema: `towers` says which features are the user's, the item's and the context's; `target_item` names the item.

    Raises:
        InputError: when the schema lacks what the towers are made of.
    """

    prior: Tensor
    """[V] by embedding id of the target item; zero until `set_popularity`."""

    def __init__(self, config: TwoTowerConfig, schema: Schema) -> None:
        super().__init__()
        request, item = tower_features(schema, ("user", "context")), tower_features(schema, ("item",))
        self.target = check_target(schema, request)
        dim, std = config.embedding_dim, config.embedding_init_std
        self.sequences = (*request.tokens, *request.steps, *item.tokens, *item.steps)
        self.item_sequences = (*item.tokens, *item.steps)
        vocabulary = {sequence.name: sequence.vocabulary for sequence in schema.token_sequences}
        # What shares a table with an item's feature is looked up together with it, so that there is one such table.
        shared = [name for name in request.tokens if vocabulary[name] in item.categorical]
        by_step = [name for name in request.tokens if name in shared or config.pooling != "mean"]
        shared_item = [name for name in item.categorical if name in {vocabulary[name] for name in shared}]
        self.causal_over = causal_sequence(schema, request) if config.pooling == "causal" else None
        self.events = SequenceEmbeddings(schema, dim, by_step, std, categorical=shared_item) if by_step else None
        pooled = [name for name in request.tokens if name not in by_step]
        self.request_features = PooledEmbeddings(schema, dim, pooled, std, categorical=request.categorical)
        own = [name for name in item.categorical if name not in shared_item]
        self.ad_features = PooledEmbeddings(schema, dim, item.tokens, std, categorical=own)
        self.request_dense, self.item_dense = _DenseValues(request), _DenseValues(item)
        self.by_step, self.shared_item = tuple(n for n in by_step if n != self.causal_over), tuple(shared_item)
        self.pooling, self.width = config.pooling, config.output_dim + 1
        self.queries = nn.ParameterDict()
        if config.pooling == "attention":
            self.queries.update({name: nn.Parameter(torch.zeros(dim)) for name in by_step})
        self.encoder = (
            CausalEncoder(config.causal, dim, _max_length(schema, self.causal_over)) if self.causal_over else None
        )
        n_user = len(self.request_features.features) + len(by_step)
        n_item = len(self.ad_features.features) + len(shared_item)
        self.user_mlp = _tower(n_user * dim + request.width, config.user_hidden_dims, config)
        self.item_mlp = _tower(n_item * dim + item.width, config.item_hidden_dims, config)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))
        self.has_prior = config.popularity_prior
        self.register_buffer("prior", torch.zeros(schema.num_embeddings[self.target]))

    @property
    def scale(self) -> Tensor:
        """1 / T, at most 100."""
        return self.log_scale.clamp(max=math.log(100.0)).exp()

    def set_popularity(self, share_V: Tensor) -> None:
        """Takes the popularity of items by embedding id, if the config asks for it."""
        if self.has_prior:
            self.prior.copy_(share_V.log())

    def forward(self, batch: Batch) -> Tensor:
        """[B] logits of the rows' own pairs."""
        return self.scale * (self.user_vectors(batch, len(batch)) * self.item_vectors(batch)).sum(dim=1)

    def user_vectors(self, batch: Batch, n_rows: int) -> Tensor:
        """[n_rows, d] vectors of the first rows' requests."""
        events = {} if self.events is None else self.events(batch)
        state = []
        if self.encoder is not None:
            assert self.causal_over is not None
            found = events[self.causal_over]
            length_B = found.lengths()[:n_rows]
            states = self.encoder(found.values(), length_B)
            state = [states.index_select(0, (length_B.long() + 1).cumsum(0) - 1)]
        return self._user(self._request(batch, events, n_rows), state)

    def step_vectors(self, batch: Batch, n_rows: int) -> tuple[Tensor, Tensor]:
        """Vectors after each step of the causal sequence, the empty history first, row after row.

        Returns:
            [T + n_rows, d] vectors, and the [T + n_rows] rows that they are of.
        """
        assert self.events is not None
        assert self.encoder is not None
        assert self.causal_over is not None
        events = self.events(batch)
        found = events[self.causal_over]
        length_B = found.lengths()[:n_rows]
        states = self.encoder(found.values(), length_B)
        row = row_of_event(length_B + 1, len(states))
        features = [part.index_select(0, row) for part in self._request(batch, events, n_rows)]
        return self._user(features, [states]), row

    def item_vectors(self, batch: Batch) -> Tensor:
        """[B, d] vectors of the rows' items."""
        events = {} if self.events is None else self.events(batch)
        shared = [events[name].values() for name in self.shared_item]
        x_BX = concat([*shared, self.ad_features(batch), self.item_dense(batch, len(batch))])
        vector_BD = unit(self.item_mlp(x_BX))
        prior_B = self.prior.index_select(0, batch.sparse[self.target].values().long())
        return torch.cat([vector_BD, (prior_B / self.scale).unsqueeze(1)], dim=1)

    def _request(self, batch: Batch, events: dict[str, JaggedTensor], n_rows: int) -> list[Tensor]:
        pooled = []
        for name in self.by_step:
            found, query = events[name], self.queries.get(name, None)
            pooled.append(pool_sequence(found.values(), found.lengths()[:n_rows], self.pooling, query))
        return [*pooled, self.request_features(batch)[:n_rows], self.request_dense(batch, n_rows)]

    def _user(self, features: list[Tensor], state: list[Tensor]) -> Tensor:
        vector_BD = unit(self.user_mlp(concat([*state, *features])))
        return torch.cat([vector_BD, vector_BD.new_ones(len(vector_BD), 1)], dim=1)


def _tower(width: int, hidden_dims: tuple[int, ...], config: TwoTowerConfig) -> nn.Sequential:
    mlp = MLP(width, hidden_dims, config.dropout)
    return nn.Sequential(mlp, nn.Linear(mlp.d_out, config.output_dim))


def unit(x_BD: Tensor) -> Tensor:
    """Vectors at length one, in float32 whatever the precision around."""
    return functional.normalize(x_BD.float(), dim=1)


def check_target(schema: Schema, request: TowerFeatures) -> str:
    """The item's column.

    Raises:
        InputError: when the schema lacks what the towers are made of.
    """
    target = schema.target_item
    if target is None:
        raise InputError("retrieval needs schema.target_item: name the item's column")
    if target not in schema.towers.get("item", ()):
        raise InputError(f"retrieval needs {target!r}, the target item, in schema.towers.item: name it there")
    if not (request.categorical or request.tokens or request.width):
        raise InputError("retrieval needs features of the user in schema.towers.user: name some columns")
    return target


def causal_sequence(schema: Schema, request: TowerFeatures) -> str:
    """The one sequence whose steps are target items.

    Raises:
        InputError: when none is, or more than one.
    """
    fitting = [
        s.name for s in schema.token_sequences if s.name in request.tokens and s.vocabulary == schema.target_item
    ]
    if len(fitting) != 1:
        raise InputError(
            f"model.pooling=causal needs one sequence of towers.user that shares the table of {schema.target_item!r}, "
            f"got {', '.join(fitting) or 'none'}: name one in schema.towers.user"
        )
    return fitting[0]


def _max_length(schema: Schema, sequence: str) -> int:
    return next(s.max_length for s in schema.token_sequences if s.name == sequence)
