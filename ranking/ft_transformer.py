"""FT-Transformer: every feature a token, and a Transformer over them."""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from ranking.model_config import DeepModelConfig
from recsys.data.batch import Batch
from recsys.nn.embeddings import PooledEmbeddings
from recsys.nn.layers import MLP, BatchNorm, Dropout, LogitHead, StochasticDepth, TokenDropout, checkpointed
from recsys.schema.resolved import Schema


class FTTransformerConfig(DeepModelConfig):
    """Sizes of an FT-Transformer."""

    name: Literal["ft_transformer"] = "ft_transformer"
    d_model: int = Field(default=256, ge=1)
    n_layers: int = Field(default=4, ge=1)
    n_heads: int = Field(default=8, ge=1)
    ffn_factor: float = Field(default=4 / 3, gt=0)
    """Width of the feed-forward layer, in d_model."""
    attention_dropout: float = Field(default=0.2, ge=0, lt=1)
    ffn_dropout: float = Field(default=0.1, ge=0, lt=1)
    token_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability of a whole token to be dropped."""
    stochastic_depth: float = Field(default=0.1, ge=0, lt=1)
    """Probability of a row to skip a branch of the last layer; less for those before it."""
    numeric_tokens: Literal["linear", "fourier"] = "fourier"
    n_frequencies: int = Field(default=16, ge=1)
    frequency_std: float = Field(default=0.1, gt=0)
    """Of the normal distribution that the Fourier frequencies begin with."""
    token_batch_norm: bool = False
    """Normalizes each unit of each token over the batch, before the first layer."""
    embedding_init_std: float | None = Field(default=None, gt=0)
    """Of the tables at first; null takes d_model ** -.5."""
    readout: Literal["cls", "tokens"] = "cls"
    """What the logit is read from: the last state of [CLS], or those of all tokens, side by side, without [CLS]."""
    hidden_dims: tuple[int, ...] = ()
    """Of an MLP between the readout and the logit; none in the paper."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Of that MLP."""
    batch_norm: bool = False
    """Of that MLP."""
    gradient_checkpointing: bool = False
    """Trades time for memory: activations of each layer are computed anew in the backward pass."""
    pool_sequences: bool = True
    """Reads each token sequence as the mean of its embeddings: one token."""

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "FTTransformerConfig":
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads must divide d_model, got {self.n_heads} and {self.d_model}")
        return self


class LinearTokens(nn.Module):
    """x_j w_j + b_j for each numeric feature j.

    Source: Gorishniy et al., "Revisiting deep learning models for tabular data", NeurIPS 2021, section 3.3.
    """

    no_decay = True

    def __init__(self, n_features: int, d_model: int) -> None:
        super().__init__()
        bound = d_model**-0.5
        self.weight = nn.Parameter(torch.empty(n_features, d_model).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_features, d_model).uniform_(-bound, bound))

    def forward(self, x_BN: Tensor) -> Tensor:
        """[B, N] to [B, N, D]."""
        return torch.addcmul(self.bias, x_BN.unsqueeze(2), self.weight)


class FourierTokens(nn.Module):
    """W_j [sin(2 pi c_j x_j), cos(2 pi c_j x_j)] + b_j with trainable frequencies c_j.

    Source: Gorishniy, Rubachev and Babenko, "On embeddings for numerical features in tabular deep learning", NeurIPS
    2022, section 3.3.

    Args:
        n_features: N.
        d_model: D.
        n_frequencies: K, of each feature.
        std: of the frequencies at first.
    """

    no_decay = True

    def __init__(self, n_features: int, d_model: int, n_frequencies: int, std: float) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.randn(n_features, n_frequencies) * std)
        bound = (2 * n_frequencies) ** -0.5
        self.weight = nn.Parameter(torch.empty(n_features, 2 * n_frequencies, d_model).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_features, d_model).uniform_(-bound, bound))

    def forward(self, x_BN: Tensor) -> Tensor:
        """[B, N] to [B, N, D]."""
        angle_BNK = 2 * torch.pi * x_BN.unsqueeze(2) * self.frequency
        waves_NBK = torch.cat([angle_BNK.sin(), angle_BNK.cos()], dim=2).transpose(0, 1)
        return torch.bmm(waves_NBK, self.weight).transpose(0, 1) + self.bias


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)) with a gated ReLU.

    Args:
        config: sizes.
        stochastic_depth: probability of a row to skip a branch.
        is_first: whether to leave the first norm out, as the paper does in the first layer.
    """

    def __init__(self, config: FTTransformerConfig, stochastic_depth: float, is_first: bool) -> None:
        super().__init__()
        width, d_ffn = config.d_model, max(1, round(config.ffn_factor * config.d_model))
        self.n_heads, self.attention_dropout = config.n_heads, Dropout(config.attention_dropout)
        self.attention_norm = nn.Identity() if is_first else nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.ffn_norm = nn.LayerNorm(width)
        self.ffn_in, self.ffn_out = nn.Linear(width, 2 * d_ffn), nn.Linear(d_ffn, width)
        self.dropout, self.skip = Dropout(config.ffn_dropout), StochasticDepth(stochastic_depth)

    def forward(self, x_BTD: Tensor, n_queries: int | None = None) -> Tensor:
        """[B, T, D] to the same, or to its first `n_queries` tokens: of the last layer only [CLS] is wanted."""
        x_BQD = x_BTD if n_queries is None else x_BTD[:, :n_queries]
        x_BQD = x_BQD + self.skip(self.attention(self.attention_norm(x_BTD), x_BQD.shape[1]))
        return x_BQD + self.skip(self.feed_forward(self.ffn_norm(x_BQD)))

    def attention(self, x_BTD: Tensor, n_queries: int) -> Tensor:
        """Multi-head attention of the first tokens to all."""
        q, (k, v) = self.query(x_BTD[:, :n_queries]), self.key_value(x_BTD).chunk(2, dim=2)
        q, k, v = (part.unflatten(2, (self.n_heads, -1)).transpose(1, 2) for part in (q, k, v))
        if self.training and x_BTD.device.type == "cpu":
            # torch has no fast kernel for this: its own takes a third longer, most of that for the dropout
            weights = ((q * q.shape[3] ** -0.5) @ k.transpose(2, 3)).softmax(3)
            found = self.attention_dropout(weights) @ v
        else:
            dropout = self.attention_dropout.probability if self.training else 0.0
            found = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return self.out(found.transpose(1, 2).flatten(2))

    def feed_forward(self, x_BTD: Tensor) -> Tensor:
        """W_2 dropout(a * ReLU(b)) with [a, b] = W_1 x."""
        value, gate = self.ffn_in(x_BTD).chunk(2, dim=2)
        return self.ffn_out(self.dropout(value * functional.relu(gate)))


class FTTransformer(nn.Module):
    """A token per categorical feature, per pooled sequence and per dense column, and [CLS], whose last state is read.

    Source: Gorishniy et al., "Revisiting deep learning models for tabular data", NeurIPS 2021 (arXiv 2106.11959). The
    other readout, all tokens side by side, is AutoInt's (Song et al., CIKM 2019, equation 9).

    Args:
        config: sizes.
        schema: features and table sizes.
    """

    def __init__(self, config: FTTransformerConfig, schema: Schema) -> None:
        super().__init__()
        self.sequences = tuple(s.name for s in schema.token_sequences) if config.pool_sequences else ()
        width = config.d_model
        self.embeddings = PooledEmbeddings(
            schema, width, self.sequences, init_std=config.embedding_init_std or width**-0.5
        )
        self.embedding_bias = _Bias(len(self.embeddings.features), width)
        self.numeric: nn.Module
        if config.numeric_tokens == "fourier":
            self.numeric = FourierTokens(len(schema.dense), width, config.n_frequencies, config.frequency_std)
        else:
            self.numeric = LinearTokens(len(schema.dense), width)
        n_tokens = len(self.embeddings.features) + len(schema.dense)
        self.token_norm = BatchNorm(n_tokens * width) if config.token_batch_norm else None
        self.token_dropout = TokenDropout(config.token_dropout)
        self.cls = _Bias(1, width) if config.readout == "cls" else None
        depths = [config.stochastic_depth * (number + 1) / config.n_layers for number in range(config.n_layers)]
        self.blocks = nn.ModuleList(Block(config, depth, number == 0) for number, depth in enumerate(depths))
        self.norm = nn.LayerNorm(width)
        d_read = width if self.cls else n_tokens * width
        self.mlp = MLP(d_read, config.hidden_dims, config.dropout, config.batch_norm)
        self.head = LogitHead(self.mlp.d_out)
        self._checkpointing = config.gradient_checkpointing

    def forward(self, batch: Batch) -> Tensor:
        """[B] logits."""
        x_BTD = self.tokens(batch)
        for block in self.blocks[:-1]:
            x_BTD = checkpointed(block, x_BTD, is_on=self._checkpointing)
        n_read = 1 if self.cls else None
        read_BQD = self.norm(checkpointed(self.blocks[-1], x_BTD, n_read, is_on=self._checkpointing))
        read_BX = functional.relu(read_BQD[:, 0]) if self.cls else read_BQD.flatten(1)
        return self.head(self.mlp(read_BX))

    def tokens(self, batch: Batch) -> Tensor:
        """[B, T, D], [CLS] first where there is one."""
        of_ids = self.embeddings(batch).unflatten(1, (len(self.embeddings.features), -1)) + self.embedding_bias.value
        features = torch.cat([of_ids, self.numeric(batch.dense)], dim=1)
        if self.token_norm is not None:
            features = self.token_norm(features.flatten(1)).view_as(features)
        features = self.token_dropout(features)
        return features if self.cls is None else torch.cat([self.cls.value.expand(len(batch), 1, -1), features], dim=1)


class _Bias(nn.Module):
    """[N, D] numbers of their own, for N tokens."""

    no_decay = True

    def __init__(self, n_tokens: int, d_model: int) -> None:
        super().__init__()
        bound = d_model**-0.5
        self.value = nn.Parameter(torch.empty(n_tokens, d_model).uniform_(-bound, bound))
