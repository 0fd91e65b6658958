"""OneTrans: one Transformer over feature tokens and event tokens, which attend to one another.

Source: Zhang et al., "OneTrans: unified feature interaction and sequence modeling with one Transformer in industrial
recommender", WWW 2026 (arXiv 2510.26104).

Shapes: B rows of a batch, F feature tokens, L event tokens of a row, P = F + L tokens, D width of a token, E width of
an embedding, X width of a row's concatenated inputs.
"""

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from ranking.din import NumericSteps
from ranking.model_config import BehavioursConfig, NumericEmbeddingsConfig, Width
from ranking.onetrans.layers import Block
from recsys.data.batch import Batch
from recsys.nn.embeddings import PooledEmbeddings, SequenceEmbeddings, module_name
from recsys.nn.histories.behaviours import behaviours_of, target_features
from recsys.nn.histories.recent import recent_places, step_places
from recsys.nn.histories.sdim import SDIM
from recsys.nn.layers import MLP, Linear, LogitHead, checkpointed, concat_aligned
from recsys.nn.linear_part import build_linear_part, with_linear_part
from recsys.nn.numeric import build_numeric_embeddings
from recsys.nn.precision import lowered
from recsys.nn.vectors import VectorProjections
from recsys.schema.resolved import Schema

_ROWS_AT_ONCE = 512
"""Rows whose tokens a CPU computes at once."""


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
    n_heads: Width = 2
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
    """Makes tokens of events: W x + a vector of the slot, which tells the sequence, and how recent the event is.

    Args:
        n_slots: slots of all sequences.
        dim: E.
        width: D.
        init_std: standard deviation of the initial vectors of slots.
    """

    no_decay = True

    def __init__(self, n_slots: int, dim: int, width: int, init_std: float) -> None:
        super().__init__()
        self.map = nn.Linear(dim, width, bias=False)
        self.slot = nn.Parameter(torch.randn(n_slots, width) * init_std)

    def forward(self, x_BLE: Tensor, slot_BL: Tensor) -> Tensor:
        """[B, L, E] events in slots to [B, L, D]; the slots may be [1, L]."""
        slots = self.slot.index_select(0, slot_BL.flatten())
        return self.map(x_BLE) + slots.view(*slot_BL.shape, slots.shape[1])


class OneTrans(nn.Module):
    """Computes a logit from a Transformer over tokens of the features, of the target, and of the last events.

    features = split(W [embeddings, target, projections of vectors, dense] + b), the paper's auto-split; tokens =
    [features, target, events of all sequences]; logit = w^T mlp(norm(last states of features and target)). Layer k of n
    returns the events of 1 - k / n of the slots, the most recent ones: the last layer returns no events.

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
    order: Tensor
    """[L] the slots of all sequences, end to end, from the most recent ones."""

    def __init__(self, config: OneTransConfig, schema: Schema) -> None:
        super().__init__()
        config.check_roles(behaviours_of(schema, None).names, schema.target_item)
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
        n_slots = sum(self.n_slots.values())
        self.event_tokens = EventTokens(n_slots, dim, width, std)
        self.register_buffer("order", _by_recency(list(self.n_slots.values())), persistent=False)
        n_layers, n_tokens = config.n_layers, config.n_feature_tokens + 1 + len(long_names)
        self.n_left = [n_slots * (n_layers - number) // n_layers for number in range(1, n_layers + 1)]
        d_ffn = max(1, round(config.ffn_factor * width))
        self.blocks = nn.ModuleList(
            Block(n_tokens, width, config.n_heads, d_ffn, config.dropout, has_events=n > 0) for n in self.n_left
        )
        self.norm = nn.LayerNorm(width)
        self.mlp = MLP(n_tokens * width, config.hidden_dims, config.dropout, config.batch_norm)
        self.head = LogitHead(self.mlp.d_out)
        self.linear_part = build_linear_part(config.linear_part, schema)
        self.width, self._checkpointing = width, config.gradient_checkpointing

    def forward(self, batch: Batch) -> Tensor:
        """Returns [B] logits."""
        embedded = self.events(batch)
        target_embeddings = [lowered(embedded[name].values()) for name in self.item]
        target_BE = torch.stack(target_embeddings).sum(0)
        events, places, is_event, long, start = [], [], [], [], 0
        for name in self.sequences:
            n_slots = self.n_slots[name]
            if (key := module_name(name)) in self.steps:
                jagged = batch.sequences[name]
                step_T = jagged.values().long()
                x_TE = self.steps[key](step_T, jagged.weights())
                place_BL, is_event_BL = step_places(step_T, jagged.lengths(), n_slots)
            else:
                x_TE, length_B = embedded[name].values(), embedded[name].lengths()
                place_BL, is_event_BL = recent_places(length_B, len(x_TE), n_slots)
                if self.long is not None:
                    long.append(self.long(lowered(x_TE), length_B, self.max_lengths[name], target_BE))
            events.append(lowered(functional.pad(x_TE, (0, 0, 0, 1))))
            places.append(place_BL + start)
            is_event.append(is_event_BL)
            start += len(x_TE) + 1
        x_BFD = self.tokens([self.features(batch), *target_embeddings], batch.dense, target_BE, long)
        place_BL, is_event_BL = (torch.cat(x, dim=1).index_select(1, self.order) for x in (places, is_event))
        state_BFD = self.encode(x_BFD, torch.cat(events), place_BL, is_event_BL)
        return with_linear_part(self.linear_part, batch, self.readout(state_BFD))

    def tokens(
        self, embeddings: Sequence[Tensor], dense_BN: Tensor, target_BE: Tensor, long: Sequence[Tensor]
    ) -> Tensor:
        """Returns the [B, F, D] feature tokens.

        Args:
            embeddings: [B, ...] embeddings of the other features, then of the target and of those added to it.
            dense_BN: dense columns.
            target_BE: the sum of the target's embeddings.
            long: [B, E] pooled events of each token sequence; none without `long_pooling`.
        """
        numeric_BX = self.numeric(self.vectors.without(dense_BN)).flatten(1)
        x_BX = concat_aligned([*embeddings, *self.vectors(dense_BN), numeric_BX])
        pooled = [layer(x_BE) for layer, x_BE in zip(self.long_tokens.values(), long, strict=True)]
        single_BFD = torch.stack([self.target_token(target_BE), *pooled], dim=1)
        return torch.cat([self.feature_tokens(x_BX).unflatten(1, (-1, self.width)), single_BFD], dim=1)

    def encode(self, x_BFD: Tensor, event_TE: Tensor, place_BL: Tensor, is_event_BL: Tensor) -> Tensor:
        """Returns the [B, F, D] last states of the features.

        A CPU takes rows with about as many events together, without the empty slots before their last event; a GPU
        takes all slots, whose number the host knows.

        Args:
            x_BFD: feature tokens.
            event_TE: embeddings of events.
            place_BL: the place among them of the event of each slot, in the order of the slots.
            is_event_BL: whether the slot has one.
        """
        n_slots = place_BL.shape[1]
        slot_1L = torch.arange(n_slots, device=place_BL.device).unsqueeze(0)
        if x_BFD.device.type != "cpu" or torch.compiler.is_compiling():
            event_BLE = event_TE.index_select(0, place_BL.flatten()).unflatten(0, place_BL.shape)
            return self.layers(x_BFD, event_BLE, slot_1L, is_event_BL, self.n_left)
        by_length_B = is_event_BL.sum(1).argsort()
        states = []
        for row_B in by_length_B.split(_ROWS_AT_ONCE):
            is_event = is_event_BL.index_select(0, row_B)
            n_left = [int(is_event[:, :n].sum(1).max()) for n in (n_slots, *self.n_left)]
            slot_BL = (slot_1L + n_slots * ~is_event).argsort(1)[:, : n_left[0]]  # slots with events come first
            place = place_BL.index_select(0, row_B).gather(1, slot_BL)
            event_BLE = event_TE.index_select(0, place.flatten()).unflatten(0, place.shape)
            state = self.layers(
                x_BFD.index_select(0, row_B), event_BLE, slot_BL, is_event.gather(1, slot_BL), n_left[1:]
            )
            states.append(state)
        if not states:
            return x_BFD
        return torch.cat(states).index_select(0, by_length_B.argsort())

    def layers(
        self, x_BFD: Tensor, event_BLE: Tensor, slot_BL: Tensor, is_event_BL: Tensor, n_left: Sequence[int]
    ) -> Tensor:
        """Returns the [B, F, D] last states of the features.

        Args:
            x_BFD: feature tokens.
            event_BLE: embeddings of events, by slot.
            slot_BL: their slots, [B, L] or [1, L].
            is_event_BL: whether there is an event.
            n_left: the first slots that each layer returns, so many that all events of its slots are among them.
        """
        event_BLD = self.event_tokens(event_BLE, slot_BL)
        for block, n_events, end in zip(self.blocks, n_left, self.n_left, strict=True):
            inputs = (x_BFD, event_BLD, is_event_BL, n_events)
            x_BFD, event_BLD = cast(Any, checkpointed(block, *inputs, is_on=self._checkpointing))
            slot_BL = slot_BL[:, :n_events]
            is_event_BL = is_event_BL[:, :n_events] & (slot_BL < end)
        return x_BFD

    def readout(self, state_BFD: Tensor) -> Tensor:
        """Returns the [B] logits of the last states."""
        return self.head(self.mlp(self.norm(state_BFD).flatten(1)))


def _by_recency(n_slots: Sequence[int]) -> Tensor:
    """The slots of sequences, end to end, in the order of their place in their sequence, from 0 to 1."""
    place = torch.cat([torch.arange(n) / n for n in n_slots])
    return place.argsort(stable=True)
