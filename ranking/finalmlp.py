"""FinalMLP: two MLPs over the same embeddings, each with its own weights of features, joined by a bilinear form.

Source: Mao et al., "FinalMLP: an enhanced two-stream MLP model for CTR prediction", AAAI 2023 (arXiv 2304.00902).

Shapes: B rows of a batch, X width of a row's concatenated inputs, C width of a gate's context,
H heads.
"""

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ranking.model_config import NumericEmbeddingsConfig, Widths
from recsys import defaults
from recsys.data.batch import Batch
from recsys.defaults import AUTO, Auto, DataSize
from recsys.nn.inputs import FlatInputs
from recsys.nn.layers import MLP, Linear, LogitHead
from recsys.nn.linear_part import build_linear_part, with_linear_part
from recsys.patterns import match_columns
from recsys.schema.resolved import Schema


class FinalMLPConfig(NumericEmbeddingsConfig):
    """Hyperparameters of FinalMLP."""

    name: Literal["finalmlp"] = "finalmlp"
    embedding_dim: int = Field(default=16, ge=1)
    embedding_init_std: float = Field(default=0.05, gt=0)
    hidden_dims: Auto[Widths] = AUTO
    """Widths of the first MLP."""
    second_hidden_dims: Auto[Widths] = AUTO
    """Widths of the second MLP."""
    gates: bool = True
    """Weighs the inputs of each MLP, by its context."""
    gate_dims: Widths = (64,)
    """Widths of the hidden layers from a context to the weights."""
    first_context: tuple[str, ...] = ()
    """Categorical features, or patterns, that decide the weights of the first MLP's inputs; without any they are the
    same for all rows."""
    second_context: tuple[str, ...] = ()
    """The same for the second MLP."""
    n_heads: int = Field(default=1, ge=1)
    """Parts into which the outputs of both MLPs are divided for the bilinear form."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    batch_norm: bool = False
    """Batch normalization in the MLPs' layers."""
    gradient_checkpointing: bool = False
    """Trades time for memory: recomputes the activations of the layers in the backward pass."""
    pool_sequences: bool = True
    """Adds the mean embedding of each token sequence to the inputs."""

    @model_validator(mode="after")
    def _check_n_heads(self) -> "FinalMLPConfig":
        if AUTO not in (self.hidden_dims, self.second_hidden_dims):
            widths = self.hidden_dims[-1], self.second_hidden_dims[-1]
            if any(width % self.n_heads for width in widths):
                raise ValueError(
                    "n_heads must divide the last of hidden_dims and of second_hidden_dims, "
                    f"got n_heads={self.n_heads} with {widths[0]} and {widths[1]}"
                )
        if not self.gates and (self.first_context or self.second_context):
            raise ValueError("first_context and second_context need gates: set gates to true, or remove them")
        return self

    def values_for(self, size: DataSize) -> dict[str, Any]:
        """See `LinearPartConfig`."""
        widths = defaults.hidden_dims(size)
        return super().values_for(size) | {"hidden_dims": widths, "second_hidden_dims": widths}


class FeatureGate(nn.Module):
    """Computes weights between 0 and 2 of the inputs of a stream from some of them, its context.

    w = 2 sigmoid(mlp(x_C)); without a context, mlp reads a learned vector, and the weights are the same for all rows.

    Source: FinalMLP, equations 5 and 6.

    Args:
        context: the columns of x that are the context.
        width: X, number of weights.
        gate_dims: widths of the hidden layers.
    """

    context: Tensor

    def __init__(self, context: Sequence[int], width: int, gate_dims: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("context", torch.tensor(context, dtype=torch.int64), persistent=False)
        self.constant = None if context else nn.Parameter(torch.ones(1, gate_dims[0]))
        self.mlp = MLP(len(context) or gate_dims[0], gate_dims, dropout=0.0)
        self.out = Linear(self.mlp.d_out, width)

    def forward(self, x_BX: Tensor) -> Tensor:
        """[B, X] to [B, X], or to [1, X] without a context."""
        context_BC = x_BX.index_select(1, self.context) if self.constant is None else self.constant
        return 2 * torch.sigmoid(self.out(self.mlp(context_BC)))


class BilinearFusion(nn.Module):
    """Computes a logit from the outputs of two streams.

    logit = b + w_1^T o_1 + w_2^T o_2 + sum_h o_1h^T W_h o_2h, where o_1h is the h-th part of o_1.

    Source: FinalMLP, equations 11 and 13. In float32, see `LogitHead`.

    Args:
        d_first, d_second: widths of the outputs.
        n_heads: H.
    """

    def __init__(self, d_first: int, d_second: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.linear = LogitHead(d_first, d_second)
        self.weight = nn.Parameter(torch.empty(n_heads, d_first // n_heads, d_second // n_heads))
        nn.init.xavier_normal_(self.weight)

    def forward(self, first_BX: Tensor, second_BX: Tensor) -> Tensor:
        """[B, d_first] and [B, d_second] to [B]."""
        with torch.autocast(first_BX.device.type, enabled=False):
            heads_HBX = first_BX.float().unflatten(1, (self.n_heads, -1)).transpose(0, 1)
            products_HBX = torch.bmm(heads_HBX, self.weight).transpose(0, 1).flatten(1)
            bilinear_B = (products_HBX * second_BX.float()).sum(1)
        return cast(Tensor, self.linear(first_BX, second_BX) + bilinear_B)


class FinalMLP(nn.Module):
    """Computes a logit from two MLPs, whose inputs are weighted by gates, and the bilinear form of their outputs.

    x = [embeddings, projections of vectors, other dense columns or their embeddings]; o_k = mlp_k(gate_k(x) * x);
    logit = fusion(o_1, o_2).

    Source: FinalMLP, figure 1.
    NOTE[DIFF]: a context is made of the embeddings that the MLPs read; the authors' code has tables of its own for it.

    Args:
        config: hyperparameters.
        schema: features and table sizes.
    """

    Config = FinalMLPConfig
    fixed_shapes = True

    def __init__(self, config: FinalMLPConfig, schema: Schema) -> None:
        super().__init__()
        self.inputs = FlatInputs(config, schema)
        self.sequences = self.inputs.sequences
        dims = config.hidden_dims, config.second_hidden_dims
        self.mlps = nn.ModuleList(
            MLP(self.inputs.width, d, config.dropout, config.batch_norm, config.gradient_checkpointing) for d in dims
        )
        contexts = {"first": config.first_context, "second": config.second_context} if config.gates else {}
        self.gates = nn.ModuleList(
            FeatureGate(self._columns(features, f"model.{name}_context"), self.inputs.width, config.gate_dims)
            for name, features in contexts.items()
        )
        self.fusion = BilinearFusion(dims[0][-1], dims[1][-1], config.n_heads)
        self.linear_part = build_linear_part(config.linear_part, schema)

    def _columns(self, features: Sequence[str], role: str) -> list[int]:
        """The columns of x that are the embeddings of some features."""
        embeddings = self.inputs.embeddings
        names, dim = embeddings.features, embeddings.embedding_dim
        starts = [names.index(name) * dim for name in match_columns(features, names, role)]
        return [start + column for start in starts for column in range(dim)]

    def forward(self, batch: Batch) -> Tensor:
        """Returns [B] logits."""
        x_BX = self.inputs(batch)
        inputs = [x_BX * gate(x_BX) for gate in self.gates] or [x_BX, x_BX]
        first_BX, second_BX = (mlp(input_BX) for mlp, input_BX in zip(self.mlps, inputs, strict=True))
        return with_linear_part(self.linear_part, batch, self.fusion(first_BX, second_BX))
