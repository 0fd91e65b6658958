"""Two towers: encode a request (a user in a context) and an item as vectors; the scaled inner product is the logit.

Source: Yi et al., "Sampling-bias-corrected neural modeling for large corpus item recommendations", RecSys 2019.

Shapes: B rows of a batch, T events of all rows, S steps of all rows (start and events), N dense inputs of a tower,
D width of a vector, X width of concatenated vectors, V ids of the target item.
"""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional
from torchrec import JaggedTensor

from recsys.data.batch import Batch
from recsys.nn.embeddings import PooledEmbeddings, SequenceEmbeddings
from recsys.nn.jagged import row_of_event
from recsys.nn.layers import MLP, concat
from recsys.nn.vectors import VectorProjections
from recsys.schema.resolved import Schema
from retrieval.auto import AutoModel
from retrieval.pooling import SEQUENTIAL, CausalConfig, CausalEncoder, Pooling, pool_sequence
from retrieval.sequential.config import SequentialConfig
from retrieval.sequential.encoder import SequentialEncoder
from retrieval.tower_features import TowerFeatures, causal_sequence, check_target, tower_features


class TwoTowerConfig(AutoModel):
    """Hyperparameters of two towers; `pipelines.parts.retrieval_defaults` chooses `auto_keys` that are not set."""

    auto_keys: ClassVar[frozenset[str]] = frozenset(
        {"pooling", "embedding_dim", "user_hidden_dims", "item_hidden_dims", "similarity", "popularity_prior"}
    )

    model_config = ConfigDict(allow_inf_nan=False)

    renamed_keys: ClassVar[Mapping[str, str]] = {"ad_hidden_dims": "item_hidden_dims"}

    name: Literal["two_tower"] = "two_tower"
    embedding_dim: int = Field(default=32, ge=1)
    embedding_init_std: float = Field(default=0.05, gt=0)
    output_dim: int = Field(default=64, ge=1)
    """Width of the compared vectors."""
    user_hidden_dims: tuple[Annotated[int, Field(ge=1)], ...] = (256, 128)
    item_hidden_dims: tuple[Annotated[int, Field(ge=1)], ...] = (128,)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    pooling: Pooling = "mean"
    """Pooling of each of the user's token sequences. causal, sasrec, ligr and hstu: causal attention over the sequence
    that shares the target item's table; each step predicts the next item and is a training sample."""
    causal: CausalConfig = CausalConfig()
    sequential: SequentialConfig = SequentialConfig()
    """Hyperparameters of the poolings sasrec, ligr and hstu."""
    similarity: Literal["cosine", "dot"] = "cosine"
    """cosine: logits are cosines of two vectors, divided by the temperature. dot: logits are inner products; a tower
    without hidden layers whose input has `output_dim` components returns its input, so that items' vectors are their
    embeddings."""
    temperature: float = Field(default=0.05, gt=0)
    """Initial value of the learned temperature, the divisor of the cosine."""
    popularity_prior: bool = True
    """Adds ln of an item's popularity to its logit, so that the towers learn only the deviation from popularity."""

    @model_validator(mode="after")
    def _check_unused_settings(self) -> "TwoTowerConfig":
        default = type(self).model_fields["temperature"].default
        if self.similarity == "dot" and self.temperature != default:
            raise ValueError("'temperature' has no effect on similarity=dot: remove it, or set similarity=cosine")
        if self.pooling == "hstu" and self.sequential.ffn_factor != SequentialConfig().ffn_factor:
            raise ValueError(
                "'sequential.ffn_factor' has no effect on pooling=hstu, which has no such layers: remove it"
            )
        return self

    @property
    def is_sequential(self) -> bool:
        """Whether each step of a history is encoded and trained on."""
        return self.pooling in SEQUENTIAL

    @property
    def width(self) -> int:
        """Width of the vectors, with the component of the popularity prior."""
        return self.output_dim + 1


class _DenseValues(nn.Module):
    """Concatenates the dense inputs of a tower.

    Args:
        features: the features of the tower.
        schema: the roles of the dense columns.
        dim: width of the projection of a vector.
    """

    columns: Tensor

    def __init__(self, features: TowerFeatures, schema: Schema, dim: int) -> None:
        super().__init__()
        self.vectors = VectorProjections(schema, dim, features.vectors)
        self.width = features.width + dim * len(features.vectors)
        self.register_buffer("columns", torch.tensor(features.dense, dtype=torch.int64), persistent=False)
        self.steps = features.steps

    def forward(self, batch: Batch, n_rows: int) -> Tensor:
        """Returns [n_rows, N]: numeric columns, projections of vectors, and groups of columns with 0 for null."""
        dense = self.of_columns(batch.dense[:n_rows])
        for name, width in self.steps.items():
            steps = batch.sequences[name]
            row_T = row_of_event(steps.lengths()[:n_rows], len(steps.values()))
            zeros_BN = batch.dense.new_zeros(n_rows, width)
            dense.append(zeros_BN.index_put((row_T, steps.values().long()), steps.weights()))
        return torch.cat(dense, dim=1)

    def of_columns(self, dense_BN: Tensor) -> list[Tensor]:
        """Returns the numeric columns and the projections of vectors of [n_rows, N] dense columns."""
        return [dense_BN.index_select(1, self.columns), *self.vectors(dense_BN)]


class TwoTower(nn.Module):
    """Computes the logit of a (request, item) pair as a scaled cosine of two vectors plus a popularity prior.

    logit = cos(user(request), item(item)) / tau + prior(item). The prior is ln of the item's popularity, or 0. With
    similarity=dot, the cosine is an inner product and tau is 1.

    The vectors have one extra component, 1 for a request and tau * prior for an item, so that their inner product ranks
    items by the logit.

    A batch may end with items without requests (see `retrieval.negatives`); their user features are empty.

    Args:
        config: hyperparameters.
        schema: features and table sizes; `towers` assigns features to user, item and context; `target_item` names the
            item's column.

    Raises:
        InputError: when the schema has no target item in the item tower, no user features, or, for causal pooling, not
            exactly one sequence of target items.
    """

    prior: Tensor
    """[V] float32 by embedding id of the target item; zero before `set_popularity`."""

    def __init__(self, config: TwoTowerConfig, schema: Schema) -> None:
        super().__init__()
        request, item = tower_features(schema, ("user", "context")), tower_features(schema, ("item",))
        self.target = check_target(schema, request)
        dim, std = config.embedding_dim, config.embedding_init_std
        self.sequences = (*request.tokens, *request.steps, *item.tokens, *item.steps)
        self.item_sequences = (*item.tokens, *item.steps)
        vocabulary = {sequence.name: sequence.vocabulary for sequence in schema.token_sequences}
        # Sequences that share a table with an item feature are in one collection with it, so the table exists once.
        shared = [name for name in request.tokens if vocabulary[name] in item.categorical]
        by_step = [name for name in request.tokens if name in shared or config.pooling != "mean"]
        shared_item = [name for name in item.categorical if name in {vocabulary[name] for name in shared}]
        self.causal_over = causal_sequence(schema, request) if config.is_sequential else None
        self.events = SequenceEmbeddings(schema, dim, by_step, std, categorical=shared_item) if by_step else None
        pooled = [name for name in request.tokens if name not in by_step]
        self.request_features = PooledEmbeddings(schema, dim, pooled, std, categorical=request.categorical)
        unshared_item = [name for name in item.categorical if name not in shared_item]
        # The name `ad_features` stays: initial weights depend on the module path, and old checkpoints contain it.
        self.ad_features = PooledEmbeddings(schema, dim, item.tokens, std, categorical=unshared_item)
        self.request_dense, self.item_dense = (_DenseValues(f, schema, dim) for f in (request, item))
        self.by_step, self.shared_item = tuple(n for n in by_step if n != self.causal_over), tuple(shared_item)
        self.pooling, self.width = config.pooling, config.width
        self.queries = nn.ParameterDict()
        if config.pooling == "attention":
            self.queries.update({name: nn.Parameter(torch.zeros(dim)) for name in by_step})
        self.encoder = _encoder(config, _max_length(schema, self.causal_over)) if self.causal_over else None
        n_user = len(self.request_features.features) + len(by_step)
        n_item = len(self.ad_features.features) + len(shared_item)
        self.user_mlp = _tower(n_user * dim + self.request_dense.width, config.user_hidden_dims, config)
        self.item_mlp = _tower(n_item * dim + self.item_dense.width, config.item_hidden_dims, config)
        self.is_dot = config.similarity == "dot"
        self.log_scale = nn.Parameter(
            torch.tensor(0.0 if self.is_dot else -math.log(config.temperature)), requires_grad=not self.is_dot
        )
        self.has_prior = config.popularity_prior
        self.register_buffer("prior", torch.zeros(schema.num_embeddings[self.target]))

    @property
    def scale(self) -> Tensor:
        """1 / tau, at most 100."""
        return self.log_scale.clamp(max=math.log(100.0)).exp()

    def set_popularity(self, share_V: Tensor) -> None:
        """Sets the prior to ln of the items' popularity if `popularity_prior` is on."""
        if self.has_prior:
            self.prior.copy_(share_V.log())

    def forward(self, batch: Batch) -> Tensor:
        """Returns the [B] logits of the rows' (request, item) pairs."""
        return self.scale * (self.user_vectors(batch, len(batch)) * self.item_vectors(batch)).sum(dim=1)

    def user_vectors(self, batch: Batch, n_rows: int) -> Tensor:
        """Returns the [n_rows, D] vectors of the requests of the first rows."""
        events = {} if self.events is None else self.events(batch)
        last_state = []
        if self.encoder is not None:
            assert self.causal_over is not None
            history = events[self.causal_over]
            last_state = [self.encoder.last(history.values(), history.lengths()[:n_rows])]
        return self.user_vectors_of(self._request(batch, events, n_rows), last_state)

    def step_vectors(self, batch: Batch, n_rows: int) -> tuple[Tensor, Tensor]:
        """Computes the request vector after each step of the causal sequence; the first step is the empty history.

        Returns:
            [S, D] vectors, row after row, and their [S] int64 row indices; S = T + n_rows.
        """
        assert self.events is not None
        assert self.encoder is not None
        assert self.causal_over is not None
        events = self.events(batch)
        history = events[self.causal_over]
        length_B = history.lengths()[:n_rows]
        state_SD = self.encoder(history.values(), length_B)
        row_S = row_of_event(length_B + 1, len(state_SD))
        features = [feature.index_select(0, row_S) for feature in self._request(batch, events, n_rows)]
        return self.user_vectors_of(features, [state_SD]), row_S

    def item_vectors(self, batch: Batch) -> Tensor:
        """Returns the [B, D] vectors of the rows' items."""
        events = {} if self.events is None else self.events(batch)
        shared = [events[name].values() for name in self.shared_item]
        x_BX = concat([*shared, self.ad_features(batch), self.item_dense(batch, len(batch))])
        vector_BD = self._normalized(self.item_mlp(x_BX))
        prior_B = self.prior.index_select(0, batch.sparse[self.target].values().long())
        return torch.cat([vector_BD, (prior_B / self.scale).unsqueeze(1)], dim=1)

    def _request(self, batch: Batch, events: dict[str, JaggedTensor], n_rows: int) -> list[Tensor]:
        """Returns the request's features, without the causal sequence: tensors of n_rows rows."""
        pooled = []
        for name in self.by_step:
            sequence, query = events[name], self.queries.get(name, None)
            pooled.append(pool_sequence(sequence.values(), sequence.lengths()[:n_rows], self.pooling, query))
        return [*pooled, self.request_features(batch)[:n_rows], self.request_dense(batch, n_rows)]

    def user_vectors_of(self, features: list[Tensor], state: list[Tensor]) -> Tensor:
        """Returns request vectors of features and the state of the causal sequence, if any; the last component is 1."""
        vector_BD = self._normalized(self.user_mlp(concat([*state, *features])))
        return torch.cat([vector_BD, torch.ones_like(vector_BD[:, :1])], dim=1)

    def _normalized(self, x_BD: Tensor) -> Tensor:
        return x_BD.float() if self.is_dot else unit(x_BD)


def _encoder(config: TwoTowerConfig, max_length: int) -> CausalEncoder | SequentialEncoder:
    """Builds the encoder of a sequential pooling."""
    match config.pooling:
        case "sasrec" | "ligr" | "hstu":
            return SequentialEncoder(config.pooling, config.sequential, config.embedding_dim, max_length)
        case _:
            return CausalEncoder(config.causal, config.embedding_dim, max_length)


def _tower(width: int, hidden_dims: tuple[int, ...], config: TwoTowerConfig) -> nn.Sequential:
    if config.similarity == "dot" and not hidden_dims and width == config.output_dim:
        return nn.Sequential()
    mlp = MLP(width, hidden_dims, config.dropout)
    return nn.Sequential(mlp, nn.Linear(mlp.d_out, config.output_dim))


def unit(x_BD: Tensor) -> Tensor:
    """Returns the vectors with unit length, in float32 under autocast too."""
    return functional.normalize(x_BD.float(), dim=1)


def _max_length(schema: Schema, sequence: str) -> int:
    return next(s.max_length for s in schema.token_sequences if s.name == sequence)
