"""DCN V2: explicit feature crosses in parallel with a deep network, or below it.

Source: Wang et al., "DCN V2: improved deep & cross network", WWW 2021 (arXiv 2008.13535).

Shapes: B rows of a batch, X width of a row's concatenated inputs.
"""

from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from ranking.model_config import NumericEmbeddingsConfig, Widths
from recsys import defaults
from recsys.data.batch import Batch
from recsys.defaults import AUTO, Auto, DataSize
from recsys.nn.embeddings import PooledEmbeddings
from recsys.nn.layers import MLP, Linear, LogitHead, StochasticDepth, checkpointed, concat_aligned
from recsys.nn.linear_part import build_linear_part, with_linear_part
from recsys.nn.numeric import build_numeric_embeddings
from recsys.nn.vectors import VectorProjections
from recsys.schema.resolved import Schema


class DCNv2Config(NumericEmbeddingsConfig):
    """Hyperparameters of DCN V2."""

    name: Literal["dcnv2"] = "dcnv2"
    embedding_dim: int = Field(default=16, ge=1)
    embedding_init_std: float = Field(default=0.05, gt=0)
    cross_depth: int = Field(default=3, ge=1)
    cross_rank: int | None = Field(default=None, ge=1)
    """Rank of the cross matrices; null for full rank."""
    structure: Literal["parallel", "stacked"] = "parallel"
    hidden_dims: Auto[Widths] = AUTO
    dropout: float = Field(default=0.1, ge=0, lt=1)
    batch_norm: bool = False
    """Batch normalization in the MLP's layers."""
    stochastic_depth: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a row skips a cross layer in training."""
    gradient_checkpointing: bool = False
    """Trades time for memory: recomputes the activations of the layers in the backward pass."""
    pool_sequences: bool = True
    """Adds the mean embedding of each token sequence to the inputs."""

    def values_for(self, size: DataSize) -> dict[str, Any]:
        """See `LinearPartConfig`."""
        return super().values_for(size) | {"hidden_dims": defaults.hidden_dims(size)}


class CrossNet(nn.Module):
    """Multiplies the input by a linear map of the previous layer, elementwise, and adds the previous layer.

    x_{l+1} = x_0 * (W_l x_l + b_l) + x_l; with a rank r, W_l = U_l V_l^T.

    Source: DCN V2, equations 1 and 2.
    NOTE[DIFF]: the low-rank form has a single expert; the paper gates several experts.

    Args:
        width: X, width of the input.
        depth: number of layers.
        rank: r; None for full rank.
        stochastic_depth: probability that a row skips a layer in training.
        gradient_checkpointing: whether to store only each layer's input for the backward pass.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        rank: int | None,
        stochastic_depth: float = 0.0,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Linear(width, width)
            if rank is None
            else nn.Sequential(Linear(width, rank, bias=False), Linear(rank, width))
            for _ in range(depth)
        )
        self.skip = StochasticDepth(stochastic_depth)
        self._checkpointing = gradient_checkpointing

    def forward(self, x_BX: Tensor) -> Tensor:
        """[B, X] to [B, X]; columns of zeros after the X stay zeros."""
        x0_BX = x_BX
        for layer in self.layers:
            x_BX = self.skip(checkpointed(self.cross, layer, x0_BX, x_BX, is_on=self._checkpointing)) + x_BX
        return x_BX

    @staticmethod
    def cross(layer: nn.Module, x0_BX: Tensor, x_BX: Tensor) -> Tensor:
        """Returns the [B, X] product of x_0 with a layer's linear map of the previous output."""
        if isinstance(layer, nn.Sequential):
            first, layer = layer
            x_BX = first(x_BX)
        return x0_BX * layer(x_BX, x0_BX.shape[1])


class DCNv2(nn.Module):
    """Computes a logit from feature crosses and an MLP.

    x_0 = [embeddings, projections of vectors, other dense columns or their embeddings].
    parallel: logit = w^T [cross(x_0), mlp(x_0)]; stacked: logit = w^T mlp(cross(x_0)).

    Source: DCN V2, figure 1.

    Args:
        config: hyperparameters.
        schema: features and table sizes.
    """

    Config = DCNv2Config
    fixed_shapes = True

    def __init__(self, config: DCNv2Config, schema: Schema) -> None:
        super().__init__()
        self.sequences = tuple(s.name for s in schema.token_sequences) if config.pool_sequences else ()
        self.embeddings = PooledEmbeddings(schema, config.embedding_dim, self.sequences, config.embedding_init_std)
        self.vectors = VectorProjections(schema, config.embedding_dim)
        n_numbers = len(self.vectors.others)
        self.numeric = build_numeric_embeddings(config.numeric_embeddings, n_numbers, config.d_numeric)
        self.d_numeric = config.d_numeric
        n_features = len(self.embeddings.features) + len(self.vectors.names)
        width = n_features * config.embedding_dim + n_numbers * config.d_numeric
        checkpointing = config.gradient_checkpointing
        self.cross = CrossNet(width, config.cross_depth, config.cross_rank, config.stochastic_depth, checkpointing)
        self.mlp = MLP(width, config.hidden_dims, config.dropout, config.batch_norm, checkpointing)
        self.branches = ("crosses", "mlp") if config.structure == "parallel" else ()
        self.head = LogitHead(*([width] if self.branches else []), self.mlp.d_out)
        self.linear_part = build_linear_part(config.linear_part, schema)

    def forward(self, batch: Batch) -> Tensor:
        """Returns [B] logits."""
        return with_linear_part(self.linear_part, batch, self.head.logits(self._terms(batch)))

    def with_branches(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns [B] logits, and the [2, B] logits of the crosses and the MLP."""
        terms_KB = self._terms(batch)
        return self.head.logits(terms_KB), self.head.branch_logits(terms_KB)

    def _terms(self, batch: Batch) -> Tensor:
        """Returns the [K, B] terms of the logit: of the crosses and the MLP, or of the MLP over the crosses."""
        numeric_BX = self.numeric(self.vectors.without(batch.dense)).flatten(1)
        x0_BX = concat_aligned([self.embeddings(batch), *self.vectors(batch.dense), numeric_BX])
        cross_BX = self.cross(x0_BX)
        if self.branches:
            return self.head.terms_of(cross_BX, self.mlp(x0_BX))
        return self.head.terms_of(self.mlp(cross_BX))
