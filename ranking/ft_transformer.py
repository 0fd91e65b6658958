"""FT-Transformer: one token per feature, and a Transformer over the tokens.

Source: Gorishniy et al., "Revisiting deep learning models for tabular data", NeurIPS 2021 (arXiv 2106.11959).

Shapes: B rows of a batch, F tokens of a row, Q tokens that are queries, D width of a token, X width of the readout.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from ranking.model_config import LinearPartConfig, Width
from recsys import defaults
from recsys.data.batch import Batch
from recsys.defaults import AUTO, Auto, DataSize
from recsys.nn.attention import attend
from recsys.nn.embeddings import PooledEmbeddings
from recsys.nn.layers import (
    MLP,
    BatchNorm,
    Dropout,
    Linear,
    LogitHead,
    StochasticDepth,
    TokenDropout,
    aligned,
    checkpointed,
)
from recsys.nn.linear_part import build_linear_part, with_linear_part
from recsys.nn.numeric import LinearEmbeddings, PeriodicEmbeddings
from recsys.nn.precision import lowered
from recsys.nn.vectors import VectorProjections
from recsys.schema.resolved import Schema


class FTTransformerConfig(LinearPartConfig):
    """Hyperparameters of FT-Transformer."""

    min_epochs: ClassVar[int] = 8

    name: Literal["ft_transformer"] = "ft_transformer"
    d_model: Auto[Width] = AUTO
    n_layers: Auto[Width] = AUTO
    n_heads: Auto[Width] = AUTO
    ffn_factor: float = Field(default=4 / 3, gt=0)
    """Width of the feed-forward layer, as a multiple of d_model."""
    attention_dropout: float = Field(default=0.2, ge=0, lt=1)
    ffn_dropout: float = Field(default=0.1, ge=0, lt=1)
    token_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability that a whole token is dropped."""
    stochastic_depth: float = Field(default=0.1, ge=0, lt=1)
    """Probability that a row skips a branch of the last layer; it falls linearly to earlier layers."""
    numeric_tokens: Auto[Literal["linear", "fourier"]] = AUTO
    n_frequencies: int = Field(default=16, ge=1)
    frequency_std: float = Field(default=0.1, gt=0)
    """Standard deviation of the normal distribution of the initial Fourier frequencies."""
    norm: Auto[Literal["layer", "none"]] = AUTO
    """layer: layer normalization before attention, feed-forward layer and readout, as in the paper, and where d_model
    is set; none: no normalization, each branch of a layer starts at zero, and the logit has a linear term of the
    tokens."""
    token_batch_norm: bool = False
    """Batch normalization of each unit of each token, before the first layer."""
    embedding_init_std: Auto[Annotated[float, Field(gt=0)] | None] = AUTO
    """Standard deviation of the initial embeddings; null for d_model ** -.5."""
    readout: Auto[Literal["cls", "tokens"]] = AUTO
    """Input of the output layers. cls: the last state of [CLS]; tokens: the concatenated last states, without [CLS]."""
    hidden_dims: Auto[tuple[Width, ...]] = AUTO
    """Widths of an MLP between the readout and the logit; none in the paper."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout probability of that MLP."""
    batch_norm: bool = False
    """Batch normalization in that MLP."""
    gradient_checkpointing: bool = False
    """Trades time for memory: recomputes the activations of each layer in the backward pass."""
    pool_sequences: bool = True
    """Adds a token for each token sequence: the mean of its embeddings."""

    @model_validator(mode="after")
    def _check_n_heads(self) -> "FTTransformerConfig":
        if AUTO not in (self.d_model, self.n_heads) and self.d_model % self.n_heads:
            raise ValueError(f"n_heads must divide d_model, got {self.n_heads} and {self.d_model}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _set_norm(cls, values: Any) -> Any:
        """The norm of a d_model that is set: `auto` chooses both, or neither; earlier versions had no other norm."""
        if isinstance(values, Mapping) and values.get("d_model", AUTO) != AUTO and values.get("norm", AUTO) == AUTO:
            return {**values, "norm": "layer"}
        return values

    @property
    def max_learning_rate(self) -> float:
        """Upper bound of the default learning rate: normalization enlarges the gradients of small embeddings."""
        return math.inf if self.norm == "none" else 0.0015

    @property
    def min_learning_rate(self) -> float:
        """Lower bound: with the rate of few clicks, a model whose branches start at zero is still near its start."""
        return 0.003 if self.norm == "none" else 0.0

    def values_for(self, size: DataSize) -> dict[str, Any]:
        """See `LinearPartConfig`."""
        return super().values_for(size) | asdict(defaults.ft_transformer(size))


class Block(nn.Module):
    """A pre-norm Transformer layer: x + attention(norm(x)), then x + feed_forward(norm(x)).

    NOTE[DIFF]: norm=none replaces norm(x) by x, and the last map of each branch starts at zero, as in Zhang, Dauphin
    and Ma, "Fixup initialization", ICLR 2019 (arXiv 1901.09321).

    Args:
        config: hyperparameters.
        stochastic_depth: probability that a row skips a branch.
        is_first: whether to omit the norm before the attention, as the paper does in the first layer.
    """

    def __init__(self, config: FTTransformerConfig, stochastic_depth: float, is_first: bool) -> None:
        super().__init__()
        width, d_ffn = config.d_model, max(1, round(config.ffn_factor * config.d_model))
        self.n_heads, self.attention_dropout = config.n_heads, Dropout(config.attention_dropout)
        self.attention_norm = nn.Identity() if is_first else _norm(config)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.ffn_norm = _norm(config)
        self.ffn_in, self.ffn_out = Linear(width, 2 * d_ffn), Linear(d_ffn, width)
        self.dropout, self.skip = Dropout(config.ffn_dropout), StochasticDepth(stochastic_depth)
        if config.norm == "none":
            for parameter in (*self.out.parameters(), *self.ffn_out.parameters()):
                nn.init.zeros_(parameter)

    def forward(self, x_BFD: Tensor, n_queries: int | None = None) -> Tensor:
        """Returns the [B, Q, D] states of the first `n_queries` of [B, F, D] tokens, or of all tokens for None.

        The [CLS] readout uses only the first token of the last layer.
        """
        x_BQD = x_BFD if n_queries is None else x_BFD[:, :n_queries]
        x_BQD = x_BQD + self.skip(self.attention(self.attention_norm(x_BFD), x_BQD.shape[1]))
        return x_BQD + self.skip(self.feed_forward(self.ffn_norm(x_BQD)))

    def attention(self, x_BFD: Tensor, n_queries: int) -> Tensor:
        """Multi-head attention with the first tokens as queries and all tokens as keys: [B, F, D] to [B, Q, D]."""
        if x_BFD.device.type == "cuda":
            return self.out(self._attend_on_gpu(x_BFD, n_queries))
        q, (k, v) = self.query(x_BFD[:, :n_queries]), self.key_value(x_BFD).chunk(2, dim=2)
        q, k, v = (x.unflatten(2, (self.n_heads, -1)).transpose(1, 2) for x in (q, k, v))
        if self.training:
            # torch's CPU kernel with dropout takes a third longer than these two lines, mostly for the dropout
            weights = ((q * q.shape[3] ** -0.5) @ k.transpose(2, 3)).softmax(3)
            attended = self.attention_dropout(weights) @ v
        else:
            attended = functional.scaled_dot_product_attention(q, k, v)
        return self.out(attended.transpose(1, 2).flatten(2))

    def _attend_on_gpu(self, x_BFD: Tensor, n_queries: int) -> Tensor:
        dropout = self.attention_dropout.probability if self.training else 0.0
        if n_queries < x_BFD.shape[1]:
            return attend(self.query(x_BFD[:, :n_queries]), self.key_value(x_BFD), self.n_heads, dropout)
        weight = torch.cat([self.query.weight, self.key_value.weight])  # one product reads the tokens once
        bias = torch.cat([self.query.bias, self.key_value.bias])
        return attend(None, functional.linear(x_BFD, weight, bias), self.n_heads, dropout)

    def feed_forward(self, x_BQD: Tensor) -> Tensor:
        """The ReGLU feed-forward layer: W_2 dropout(a * ReLU(b)) with [a, b] = W_1 x; [B, Q, D] to [B, Q, D]."""
        d_ffn = self.ffn_out.in_features
        n_missing = aligned(d_ffn, x_BQD.device.type) - d_ffn
        weight, bias = self.ffn_in.weight, self.ffn_in.bias
        if n_missing:  # units of zeros after each half
            filled = functional.pad(weight.view(2, d_ffn, -1), (0, 0, 0, n_missing)).flatten(0, 1)
            filled_bias = functional.pad(bias.view(2, d_ffn), (0, n_missing)).flatten()
            value, gate = functional.linear(x_BQD, filled, filled_bias).chunk(2, dim=2)
        else:
            value, gate = self.ffn_in(x_BQD).chunk(2, dim=2)
        return self.ffn_out(self.dropout(value * functional.relu(gate)))


class FTTransformer(nn.Module):
    """Computes a logit from a Transformer over one token per categorical feature, pooled sequence, vector and number.

    readout=cls: logit = w^T mlp(ReLU(norm(last state of [CLS]))), the paper's readout. readout=tokens: the MLP reads
    the concatenated last states of all tokens, as in AutoInt (Song et al., CIKM 2019, equation 9). norm=none adds
    v^T [all tokens], as in Wide & Deep (Cheng et al., DLRS 2016, equation 3).

    Args:
        config: hyperparameters.
        schema: features and table sizes.
    """

    Config = FTTransformerConfig
    fixed_shapes = True

    def __init__(self, config: FTTransformerConfig, schema: Schema) -> None:
        super().__init__()
        self.sequences = tuple(s.name for s in schema.token_sequences) if config.pool_sequences else ()
        width = config.d_model
        self.embeddings = PooledEmbeddings(
            schema, width, self.sequences, init_std=config.embedding_init_std or width**-0.5
        )
        self.embedding_bias = _Bias(len(self.embeddings.features), width)
        self.vectors = VectorProjections(schema, width)
        self.numeric: nn.Module
        n_numbers = len(self.vectors.others)
        if config.numeric_tokens == "fourier":
            self.numeric = PeriodicEmbeddings(n_numbers, width, config.n_frequencies, config.frequency_std)
        else:
            self.numeric = LinearEmbeddings(n_numbers, width)
        n_tokens = len(self.embeddings.features) + len(self.vectors.names) + n_numbers
        self.token_norm = BatchNorm(n_tokens * width) if config.token_batch_norm else None
        self.token_dropout = TokenDropout(config.token_dropout)
        self.cls = _Bias(1, width) if config.readout == "cls" else None
        depths = [config.stochastic_depth * (number + 1) / config.n_layers for number in range(config.n_layers)]
        self.blocks = nn.ModuleList(Block(config, depth, number == 0) for number, depth in enumerate(depths))
        self.norm = _norm(config)
        d_readout = width if self.cls else n_tokens * width
        self.mlp = MLP(d_readout, config.hidden_dims, config.dropout, config.batch_norm)
        self.has_linear_term = config.norm == "none"
        self.head = LogitHead(self.mlp.d_out, *([n_tokens * width] if self.has_linear_term else []))
        self.linear_part = build_linear_part(config.linear_part, schema)
        self._checkpointing = config.gradient_checkpointing

    def forward(self, batch: Batch) -> Tensor:
        """Returns [B] logits."""
        x_BFD = self.tokens(batch)
        token_BFD = x_BFD if self.cls is None else x_BFD[:, 1:]
        for block in self.blocks[:-1]:
            x_BFD = checkpointed(block, x_BFD, is_on=self._checkpointing)
        n_queries = 1 if self.cls else None
        state_BQD = self.norm(checkpointed(self.blocks[-1], x_BFD, n_queries, is_on=self._checkpointing))
        readout_BX = functional.relu(state_BQD[:, 0]) if self.cls else state_BQD.flatten(1)
        logits = self.head(self.mlp(readout_BX), *([token_BFD.flatten(1)] if self.has_linear_term else []))
        return with_linear_part(self.linear_part, batch, logits)

    def tokens(self, batch: Batch) -> Tensor:
        """Returns [B, F, D] tokens; [CLS] is the first one if readout=cls."""
        embedded = self.embeddings(batch).unflatten(1, self.embedding_bias.value.shape) + self.embedding_bias.value
        vectors = [x_BD.unsqueeze(1) for x_BD in self.vectors(batch.dense)]
        x_BFD = lowered(torch.cat([embedded, *vectors, self.numeric(self.vectors.without(batch.dense))], dim=1))
        if self.token_norm is not None:
            x_BFD = self.token_norm(x_BFD.flatten(1)).view_as(x_BFD)
        x_BFD = self.token_dropout(x_BFD)
        if self.cls is None:
            return x_BFD
        return torch.cat([self.cls.value.to(x_BFD.dtype).expand(x_BFD.shape[0], 1, -1), x_BFD], dim=1)


def _norm(config: FTTransformerConfig) -> nn.Module:
    return nn.Identity() if config.norm == "none" else nn.LayerNorm(config.d_model)


class _Bias(nn.Module):
    """A learned [F, D] bias for F tokens."""

    no_decay = True

    def __init__(self, n_tokens: int, d_model: int) -> None:
        super().__init__()
        bound = d_model**-0.5
        self.value = nn.Parameter(torch.empty(n_tokens, d_model).uniform_(-bound, bound))
