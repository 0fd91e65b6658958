"""TabM: an ensemble of MLPs that share their weight matrices.

Source: Gorishniy et al., "TabM: advancing tabular deep learning with parameter-efficient ensembling", ICLR 2025
(arXiv 2410.24210).

Shapes: B rows of a batch, K members, X width of a row's concatenated inputs, D width of a layer.
"""

import itertools
import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ranking.model_config import NumericEmbeddingsConfig, Widths
from recsys import defaults
from recsys.data.batch import Batch
from recsys.defaults import AUTO, Auto, DataSize
from recsys.nn.inputs import FlatInputs
from recsys.nn.layers import Dropout, checkpointed, mean_logit
from recsys.nn.linear_part import build_linear_part, with_linear_part
from recsys.schema.resolved import Schema


class TabMConfig(NumericEmbeddingsConfig):
    """Hyperparameters of TabM."""

    name: Literal["tabm"] = "tabm"
    embedding_dim: int = Field(default=16, ge=1)
    embedding_init_std: float = Field(default=0.05, gt=0)
    n_members: int = Field(default=32, ge=1)
    """MLPs; a step costs as much as so many."""
    hidden_dims: Auto[Widths] = AUTO
    dropout: float = Field(default=0.1, ge=0, lt=1)
    gradient_checkpointing: bool = False
    """Trades time for memory: recomputes the activations of the layers in the backward pass."""
    pool_sequences: bool = True
    """Adds the mean embedding of each token sequence to the inputs."""

    def values_for(self, size: DataSize) -> dict[str, Any]:
        """See `LinearPartConfig`."""
        return super().values_for(size) | {"hidden_dims": defaults.hidden_dims(size)}


class MembersLinear(nn.Module):
    """A linear layer of K members with one weight matrix; each scales its inputs and outputs, and has a bias.

    y_k = s_k * (W (r_k * x_k)) + b_k.

    Source: TabM, section 3.2 (after Wen et al., "BatchEnsemble", ICLR 2020): r of the first layer starts as random
    signs, so that members differ; all other scales start as ones.

    Args:
        d_in, d_out: widths.
        n_members: K.
        is_first: whether r starts as random signs.
    """

    def __init__(self, d_in: int, d_out: int, n_members: int, is_first: bool) -> None:
        super().__init__()
        bound = 1 / math.sqrt(d_in)
        signs_KD = torch.randint(0, 2, (n_members, d_in)) * 2.0 - 1
        self.weight = nn.Parameter(torch.empty(d_out, d_in).uniform_(-bound, bound))
        self.r = nn.Parameter(signs_KD if is_first else torch.ones(n_members, d_in))
        self.s = nn.Parameter(torch.ones(n_members, d_out))
        self.bias = nn.Parameter(torch.empty(n_members, d_out).uniform_(-bound, bound))

    def forward(self, x_BKD: Tensor) -> Tensor:
        """[B, K, d_in] to [B, K, d_out]; a [B, 1, d_in] input is that of all members."""
        return torch.nn.functional.linear(x_BKD * self.r, self.weight) * self.s + self.bias


class MembersHead(nn.Module):
    """A linear layer of each member to its logit, in float32: see `recsys.nn.layers.LogitHead`.

    Args:
        d_in: input width.
        n_members: K.
    """

    def __init__(self, d_in: int, n_members: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(d_in)
        self.weight = nn.Parameter(torch.empty(n_members, d_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_members).uniform_(-bound, bound))

    def forward(self, x_BKD: Tensor) -> Tensor:
        """[B, K, D] to [K, B]."""
        with torch.autocast(x_BKD.device.type, enabled=False):
            return ((x_BKD.float() * self.weight).sum(2) + self.bias).T


class TabM(nn.Module):
    """Computes the logit of the mean probability of K MLPs with shared weights; each member has its own loss.

    x = [embeddings, projections of vectors, other dense columns or their embeddings];
    p = mean_k sigmoid(mlp_k(x)).

    Source: TabM, figure 1.
    NOTE[DIFF]: all members read the same batch, as in the authors' code; categorical features have embeddings.

    Args:
        config: hyperparameters.
        schema: features and table sizes.
    """

    Config = TabMConfig
    fixed_shapes = True

    def __init__(self, config: TabMConfig, schema: Schema) -> None:
        super().__init__()
        self.inputs = FlatInputs(config, schema)
        self.sequences = self.inputs.sequences
        widths = [self.inputs.width, *config.hidden_dims]
        self.layers = nn.ModuleList(
            nn.Sequential(
                MembersLinear(d_in, d_out, config.n_members, is_first=number == 0), nn.ReLU(), Dropout(config.dropout)
            )
            for number, (d_in, d_out) in enumerate(itertools.pairwise(widths))
        )
        self.head = MembersHead(widths[-1], config.n_members)
        self.linear_part = build_linear_part(config.linear_part, schema)
        self._checkpointing = config.gradient_checkpointing

    def forward(self, batch: Batch) -> Tensor:
        """Returns [B] logits."""
        return with_linear_part(self.linear_part, batch, mean_logit(self.member_logits(batch)))

    def member_logits(self, batch: Batch) -> Tensor:
        """Returns the [K, B] logits of the members."""
        x_BX = self.inputs(batch)
        x_BKD = x_BX.unsqueeze(1)
        for layer in self.layers:
            x_BKD = checkpointed(layer, x_BKD, is_on=self._checkpointing)
        logits_KB: Tensor = self.head(x_BKD)
        return logits_KB
