"""QNN-alpha: layers that multiply their input by a linear map of itself, so that degrees double with each layer.

Source: Li et al., "Revisiting feature interactions from the perspective of quadratic neural networks for click-through
rate prediction", KDD 2025 (arXiv 2505.17999).

Shapes: B rows of a batch, X width of a row's concatenated inputs, R factors of a layer.
"""

from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from ranking.model_config import NumericEmbeddingsConfig
from recsys.data.batch import Batch
from recsys.nn.inputs import FlatInputs
from recsys.nn.layers import BatchNorm, Dropout, Linear, LogitHead, checkpointed, concat
from recsys.nn.linear_part import build_linear_part, with_linear_part
from recsys.nn.numeric import NumericEmbeddings
from recsys.schema.resolved import Schema

_D_NUMERIC = 4
"""Enough for both signs; a layer's weights grow with the square of the width of all columns."""


class QNNConfig(NumericEmbeddingsConfig):
    """Hyperparameters of QNN-alpha."""

    name: Literal["qnn"] = "qnn"
    embedding_dim: int = Field(default=16, ge=1)
    embedding_init_std: float = Field(default=0.05, gt=0)
    n_layers: int = Field(default=2, ge=1)
    """Layers; inputs meet in products of up to 2^n_layers of them."""
    n_factors: int = Field(default=4, ge=1)
    """Linear maps of a layer, whose sum multiplies its input."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    batch_norm: bool = True
    """Batch normalization of the linear maps."""
    gradient_checkpointing: bool = False
    """Trades time for memory: recomputes the activations of the layers in the backward pass."""
    pool_sequences: bool = True
    """Adds the mean embedding of each token sequence to the inputs."""
    numeric_embeddings: NumericEmbeddings = "linear"
    """As of the other models. A layer multiplies each input by a sum that is not negative: with none, a numeric column
    has no number of the other sign beside it, and its square is out of reach."""
    numeric_embedding_dim: int | None = Field(default=None, ge=1)
    """Width of the embedding of a numeric column; null for 4."""

    @property
    def d_numeric(self) -> int:
        """Width of what a numeric column becomes."""
        return 1 if self.numeric_embeddings == "none" else self.numeric_embedding_dim or _D_NUMERIC


class QuadraticLayer(nn.Module):
    """Multiplies the input by a sum of R activated linear maps of it, elementwise, and adds the input.

    y = x * sum_r dropout(relu(norm(W_r x + b_r))) + x.

    Source: QNN-alpha, the Khatri-Rao product with the activation before the product.
    NOTE[DIFF]: one head, the best number on Frappe in the authors' logs; with more, x is permuted in the product.

    Args:
        width: X, width of the input.
        n_factors: R.
        dropout: dropout probability of a unit of a map.
        batch_norm: whether to use batch normalization.
    """

    def __init__(self, width: int, n_factors: int, dropout: float, batch_norm: bool) -> None:
        super().__init__()
        normalization = [BatchNorm(width * n_factors)] if batch_norm else []
        self.factors = nn.Sequential(
            Linear(width, width * n_factors), *normalization, nn.ReLU(), Dropout(dropout), nn.Unflatten(1, (-1, width))
        )

    def forward(self, x_BX: Tensor) -> Tensor:
        """[B, X] to [B, X]."""
        return x_BX * self.factors(x_BX).sum(1) + x_BX


class QNN(nn.Module):
    """Computes a logit from quadratic layers; dropout acts on the output of each.

    x_0 = [embeddings, projections of vectors, s * (other dense columns or their embeddings)];
    logit = w^T x_L + b.

    Source: QNN-alpha. Its loss of two passes is `trainer.loss.self_ensemble`, for any model.
    NOTE[DIFF]: the learned scales s start at the standard deviation of the embeddings: each layer multiplies, and at
    the scale of one the first logits of a few hundred columns would be far from zero.

    Args:
        config: hyperparameters.
        schema: features and table sizes.
    """

    Config = QNNConfig
    fixed_shapes = True

    def __init__(self, config: QNNConfig, schema: Schema) -> None:
        super().__init__()
        self.inputs = FlatInputs(config, schema)
        self.sequences = self.inputs.sequences
        self.number_scale = nn.Parameter(torch.full((self.inputs.d_numbers,), config.embedding_init_std))
        width = self.inputs.width
        self.layers = nn.ModuleList(
            nn.Sequential(
                QuadraticLayer(width, config.n_factors, config.dropout, config.batch_norm), Dropout(config.dropout)
            )
            for _ in range(config.n_layers)
        )
        self.head = LogitHead(width)
        self.linear_part = build_linear_part(config.linear_part, schema)
        self._checkpointing = config.gradient_checkpointing

    def forward(self, batch: Batch) -> Tensor:
        """Returns [B] logits."""
        *vectors, numbers_BX = self.inputs.parts(batch)
        x_BX = concat([*vectors, numbers_BX * self.number_scale])
        for layer in self.layers:
            x_BX = checkpointed(layer, x_BX, is_on=self._checkpointing)
        return with_linear_part(self.linear_part, batch, cast(Tensor, self.head(x_BX)))
