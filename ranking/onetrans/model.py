"""OneTrans: one Transformer over feature tokens and event tokens, which attend to one another.

Source: Zhang et al., "OneTrans: unified feature interaction and sequence modeling with one Transformer in industrial
recommender", WWW 2026 (arXiv 2510.26104).

Shapes: B rows of a batch, F feature tokens, L event tokens of a row, P = F + L tokens, D width of a token, E width of
an embedding, X width of a row's concatenated inputs.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ranking.din import NumericSteps
from ranking.model_config import BehavioursConfig, NumericEmbeddingsConfig, Width
from ranking.onetrans.layers import Block
from recsys.data.batch import Batch
from recsys.nn.embeddings import PooledEmbeddings, SequenceEmbeddings, module_name
from recsys.nn.histories.behaviours import behaviours_of, target_features
from recsys.nn.histories.recent import recent_events, slots_of_steps
from recsys.nn.histories.sdim import SDIM
from recsys.nn.layers import MLP, Linear, LogitHead, checkpointed, concat_aligned
from recsys.nn.linear_part import build_linear_part, with_linear_part
from recsys.nn.numeric import build_numeric_embeddings
from recsys.nn.precision import lowered
from recsys.nn.vectors import VectorProjections
from recsys.schema.resolved import Schema


class OneTransConfig(BehavioursConfig, NumericEmbeddingsConfig):
    """Hyperparameters of OneTrans."""

    name: Literal["onetrans"] = "onetrans"
    embedding_dim: int = Field(default=16, ge=1)
    embedding_init_std: float = Field(default=0.05, gt=0)
    max_events: int = Field(default=50, ge=1)
    """Events of each token sequence that are tokens: the last ones."""
    d_model: Width = 32
    """Width of a token."""
    n_layers: int = Field(default=2, ge=1)
    n_heads: Width = 4
    n_feature_tokens: Width = 8
    """Tokens that the features of a row are mapped to, besides that of the target."""
    ffn_factor: float = Field(default=2, gt=0)
    """Width of the feed-forward layer, as a multiple of d_model."""
    hidden_dims: tuple[Width, ...] = (64,)
    """Widths of an MLP between the last states of the feature tokens and the logit."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    batch_norm: bool = False
    """Batch normalization in that MLP."""
    gradient_checkpointing: bool = False
    """Trades time for memory: recomputes the activations of each layer in the backward pass."""

    @model_validator(mode="after")
    def _check_n_heads(self) -> "OneTransConfig":
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads must divide d_model, got {self.n_heads} and {self.d_model}")
        return self


class EventTokens(nn.Module):
    """Makes tokens of the events of a sequence: W x + a vector of the slot, which tells how recent the event is.

    Args:
        n_slots: most events.
        dim: E.
        width: D.
        init_std: standard deviation of the initial vectors of slots.
    """

    no_decay = True

    def __init__(self, n_slots: int, dim: int, width: int, init_std: float) -> None:
        super().__init__()
        self.map = nn.Linear(dim, width, bias=False)
        self.slot = nn.Parameter(torch.randn(n_slots, width) * init_std)

    def forward(self, x_BLE: Tensor) -> Tensor:
        """[B, L, E] to [B, L, D]."""
        return self.map(x_BLE) + self.slot


class OneTrans(nn.Module):
    """Computes a logit from a Transformer over tokens of the features, of the target, and of the last events.

    features = split(W [embeddings, target, projections of vectors, dense] + b), the paper's auto-split; tokens =
    [features, target, events of all sequences]; logit = w^T mlp(norm(last states of features and target)). Layer k of n
    returns 1 - k / n of the events, the most recent ones: the last layer returns no events.

    With `long_pooling` each token sequence has one more feature token, all its events pooled by SDIM. Events of a group
    of columns are its steps.

    NOTE[DIFF]: the target has a token of its own from the table of the events' items, so that attention can match them.
    The sequences of a row are not merged by time: an event's slot is its place in its own sequence.

    Args:
        config: hyperparameters.
        schema: features and table sizes; `target_item` names the candidate's column.

    Raises:
        InputError: as for `DIN`.
    """

    Config = OneTransConfig
    dynamic_shapes = True

    def __init__(self, config: OneTransConfig, schema: Schema) -> None:
        super().__init__()
        config.check_roles([*schema.token_sequences, *schema.column_sequences], schema.target_item)
        behaviours = behaviours_of(schema, config.behaviours)
        self.item = target_features(schema, config.target_with)
        self.sequences, self.max_lengths = behaviours.names, behaviours.max_lengths
        self.n_slots = {
            name: behaviours.n_steps.get(name, min(config.max_events, behaviours.max_lengths[name]))
            for name in self.sequences
        }
        dim, std, width = config.embedding_dim, config.embedding_init_std, config.d_model
        other_categorical = [name for name in schema.categorical if name not in self.item]
        self.events = SequenceEmbeddings(schema, dim, behaviours.tokens, std, categorical=self.item)
        self.features = PooledEmbeddings(schema, dim, (), std, categorical=other_categorical)
        n_steps = behaviours.n_steps
        self.steps = nn.ModuleDict(
            {module_name(name): NumericSteps(n_steps[name], dim, std) for name in self.sequences if name in n_steps}
        )
        self.vectors = VectorProjections(schema, dim)
        n_numbers = len(self.vectors.others)
        self.numeric = build_numeric_embeddings(config.numeric_embeddings, n_numbers, config.d_numeric)
        d_inputs = (len(schema.categorical) + len(self.vectors.names)) * dim + n_numbers * config.d_numeric
        self.feature_tokens = Linear(d_inputs, config.n_feature_tokens * width)
        self.target_token = nn.Linear(dim, width)
        self.long = SDIM(dim, config.n_hashes, config.hash_width) if config.long_pooling == "sdim" else None
        long_names = behaviours.tokens if self.long else []
        self.long_tokens = nn.ModuleDict({module_name(name): nn.Linear(dim, width) for name in long_names})
        self.event_tokens = nn.ModuleDict(
            {module_name(name): EventTokens(n, dim, width, std) for name, n in self.n_slots.items()}
        )
        self.register_buffer("order", _by_recency(list(self.n_slots.values())), persistent=False)
        n_tokens, n_slots = config.n_feature_tokens + 1 + len(long_names), sum(self.n_slots.values())
        n_left = [n_slots * (config.n_layers - k) // config.n_layers for k in range(1, config.n_layers + 1)]
        d_ffn = max(1, round(config.ffn_factor * width))
        self.blocks = nn.ModuleList(Block(n_tokens, n, width, config.n_heads, d_ffn, config.dropout) for n in n_left)
        self.norm = nn.RMSNorm(width)
        self.mlp = MLP(n_tokens * width, config.hidden_dims, config.dropout, config.batch_norm)
        self.head = LogitHead(self.mlp.d_out)
        self.linear_part = build_linear_part(config.linear_part, schema)
        self.width, self._checkpointing = width, config.gradient_checkpointing

    order: Tensor
    """[L] the slots of all sequences, from the most recent ones."""

    def forward(self, batch: Batch) -> Tensor:
        """Returns [B] logits."""
        embedded = self.events(batch)
        target_embeddings = [lowered(embedded[name].values()) for name in self.item]
        target_BE = torch.stack(target_embeddings).sum(0)
        events, long = [], []
        for name in self.sequences:
            if (key := module_name(name)) in self.steps:
                jagged = batch.sequences[name]
                step_T = jagged.values().long()
                x_TE = lowered(self.steps[key](step_T, jagged.weights()))
                events.append(slots_of_steps(x_TE, step_T, jagged.lengths(), self.n_slots[name]))
            else:
                x_TE, length_B = lowered(embedded[name].values()), embedded[name].lengths()
                events.append(recent_events(x_TE, length_B, self.n_slots[name]))
                if self.long is not None:
                    long.append(self.long(x_TE, length_B, self.max_lengths[name], target_BE))
        inputs = [self.features(batch), *target_embeddings]
        logits = self.logits(inputs, batch.dense, target_BE, events, long)
        return with_linear_part(self.linear_part, batch, logits)

    def logits(
        self,
        embeddings: Sequence[Tensor],
        dense_BN: Tensor,
        target_BE: Tensor,
        events: Sequence[tuple[Tensor, Tensor]],
        long: Sequence[Tensor],
    ) -> Tensor:
        """Returns [B] logits, without those of the linear part.

        Args:
            embeddings: [B, ...] embeddings of the other features, then of the target and of those added to it.
            dense_BN: dense columns.
            target_BE: the sum of the target's embeddings.
            events: [B, slots, E] events of each sequence, and the [B, slots] bool of those that are present.
            long: [B, E] pooled events of each token sequence; none without `long_pooling`.
        """
        numeric_BX = self.numeric(self.vectors.without(dense_BN)).flatten(1)
        x_BX = concat_aligned([*embeddings, *self.vectors(dense_BN), numeric_BX])
        pooled = [layer(x_BE) for layer, x_BE in zip(self.long_tokens.values(), long, strict=True)]
        single_BFD = torch.stack([self.target_token(target_BE), *pooled], dim=1)
        feature_BFD = self.feature_tokens(x_BX).unflatten(1, (-1, self.width))
        tokens = [layer(x_BLE) for layer, (x_BLE, _) in zip(self.event_tokens.values(), events, strict=True)]
        is_event_BL = torch.cat([is_event for _, is_event in events], dim=1).index_select(1, self.order)
        event_BLD = torch.cat(tokens, dim=1).index_select(1, self.order)
        x_BPD = torch.cat([feature_BFD, single_BFD, event_BLD], dim=1)
        n_features = x_BPD.shape[1] - event_BLD.shape[1]
        is_present_BP = torch.cat([torch.ones_like(x_BPD[:, :n_features, 0], dtype=torch.bool), is_event_BL], dim=1)
        for block in self.blocks:
            x_BPD = checkpointed(block, x_BPD, is_present_BP[:, : x_BPD.shape[1]], is_on=self._checkpointing)
        return self.head(self.mlp(self.norm(x_BPD).flatten(1)))


def _by_recency(n_slots: Sequence[int]) -> Tensor:
    """The slots of sequences, end to end, in the order of their place in their sequence, from 0 to 1."""
    place = torch.cat([torch.arange(n) / n for n in n_slots])
    return place.argsort(stable=True)
