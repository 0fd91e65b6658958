"""TabM: many multilayer perceptrons that share their matrices, optionally after explicit feature crosses.

Source: Gorishniy et al., "TabM: advancing tabular deep learning with parameter-efficient ensembling", ICLR 2025
(arXiv 2410.24210); its layers are those of Wen et al., "BatchEnsemble", ICLR 2020 (arXiv 2002.06715).

Shapes: B rows of a batch, K members, X width of a row's concatenated inputs, D width of a layer.
"""

from collections.abc import Sequence
from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ranking.dcnv2 import CrossNet
from ranking.model_config import NumericEmbeddingsConfig, Widths
from recsys import defaults
from recsys.data.batch import Batch
from recsys.defaults import AUTO, Auto, DataSize, filled
from recsys.nn.embeddings import PooledEmbeddings
from recsys.nn.layers import BatchNorm, Dropout, concat
from recsys.nn.numeric import build_numeric_embeddings
from recsys.schema.resolved import Schema


class TabMConfig(NumericEmbeddingsConfig):
    """Hyperparameters of TabM."""

    name: Literal["tabm"] = "tabm"
    embedding_dim: int = Field(default=16, ge=1)
    embedding_init_std: float = Field(default=0.05, gt=0)
    n_members: int = Field(default=16, ge=1)
    """K, the number of members."""
    cross_depth: int = Field(default=0, ge=0)
    """Layers of a cross network whose output the members read beside its input; 0 for none."""
    hidden_dims: Auto[Widths] = AUTO
    dropout: float = Field(default=0.1, ge=0, lt=1)
    batch_norm: bool = False
    """Batch normalization in the members' layers, of each member by itself."""
    pool_sequences: bool = True
    """Adds the mean embedding of each token sequence to the inputs."""

    def resolved(self, size: DataSize) -> Self:
        """Replaces the settings that are `auto` by those for data of this size."""
        return filled(self, {"hidden_dims": defaults.hidden_dims(size)})


class MemberLinear(nn.Module):
    """A linear layer of K members that share its matrix: y_k = s_k * (W (r_k * x_k)) + b_k.

    Args:
        d_in: input width.
        d_out: output width.
        n_members: K.
        is_first: whether r_k are random signs, which make members that read the same input differ; else ones.
    """

    def __init__(self, d_in: int, d_out: int, n_members: int, is_first: bool) -> None:
        super().__init__()
        self.matrix = nn.Linear(d_in, d_out, bias=False)
        signs_KD = torch.randint(0, 2, (n_members, d_in)).float() * 2 - 1
        self.r_KD = nn.Parameter(signs_KD if is_first else torch.ones(n_members, d_in))
        self.s_KD = nn.Parameter(torch.ones(n_members, d_out))
        bound = d_in**-0.5
        self.bias_KD = nn.Parameter(torch.empty(n_members, d_out).uniform_(-bound, bound))

    def forward(self, x_BKD: Tensor) -> Tensor:
        """[B, K, d_in] to [B, K, d_out]."""
        return self.matrix(x_BKD * self.r_KD) * self.s_KD + self.bias_KD


class MemberMLP(nn.Module):
    """K multilayer perceptrons of the same input, in layers of linear -> batch normalization -> ReLU -> dropout.

    Args:
        d_in: input width.
        hidden_dims: output width of each layer.
        n_members: K.
        dropout: dropout probability.
        batch_norm: whether to use batch normalization.
    """

    def __init__(self, d_in: int, hidden_dims: Sequence[int], n_members: int, dropout: float, batch_norm: bool) -> None:
        super().__init__()
        widths = [d_in, *hidden_dims]
        self.layers = nn.ModuleList(
            MemberLinear(d, d_out, n_members, is_first=number == 0)
            for number, (d, d_out) in enumerate(zip(widths, hidden_dims, strict=False))
        )
        self.norms = nn.ModuleList(
            BatchNorm(n_members * d_out) if batch_norm else nn.Identity() for d_out in hidden_dims
        )
        self.dropout = Dropout(dropout)

    def forward(self, x_BKD: Tensor) -> Tensor:
        """[B, K, d_in] to [B, K, hidden_dims[-1]]."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x_BKD = layer(x_BKD)
            x_BKD = self.dropout(functional.relu(norm(x_BKD.flatten(1)).view_as(x_BKD)))
        return x_BKD


class TabM(nn.Module):
    """Computes a logit from the mean probability of K members, each of which is trained by its own loss.

    x = [embeddings, dense columns or their embeddings, crosses of these]; logit_k = w_k^T mlp_k(x) + c_k.

    Source: TabM, figure 1 and section 3.3. NOTE[DIFF]: crosses are an addition.

    Args:
        config: hyperparameters.
        schema: features and table sizes.
    """

    Config = TabMConfig
    fixed_shapes = True

    def __init__(self, config: TabMConfig, schema: Schema) -> None:
        super().__init__()
        self.sequences = tuple(s.name for s in schema.token_sequences) if config.pool_sequences else ()
        self.embeddings = PooledEmbeddings(schema, config.embedding_dim, self.sequences, config.embedding_init_std)
        self.numeric = build_numeric_embeddings(config.numeric_embeddings, len(schema.dense), config.d_numeric)
        width = len(self.embeddings.features) * config.embedding_dim + len(schema.dense) * config.d_numeric
        self.cross = CrossNet(width, config.cross_depth, None) if config.cross_depth else None
        d_in, n_members = width * (2 if config.cross_depth else 1), config.n_members
        self.members = MemberMLP(d_in, config.hidden_dims, n_members, config.dropout, config.batch_norm)
        d_out = config.hidden_dims[-1]
        bound = d_out**-0.5
        self.head_KD = nn.Parameter(torch.empty(n_members, d_out).uniform_(-bound, bound))
        self.head_bias_K = nn.Parameter(torch.zeros(n_members))

    def forward(self, batch: Batch) -> Tensor:
        """Returns [B] logits."""
        return logit_of_mean(self._member_logits(batch))

    def with_members(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns [B] logits, and the [K, B] logits of the members."""
        logits_KB = self._member_logits(batch)
        return logit_of_mean(logits_KB), logits_KB

    def _member_logits(self, batch: Batch) -> Tensor:
        x_BX = concat([self.embeddings(batch), self.numeric(batch.dense).flatten(1)])
        if self.cross is not None:
            x_BX = concat([x_BX, self.cross(x_BX)])
        x_BKD = self.members(x_BX.unsqueeze(1))
        with torch.autocast(x_BKD.device.type, enabled=False):  # bfloat16 would tie logits
            return torch.einsum("bkd,kd->kb", x_BKD.float(), self.head_KD) + self.head_bias_K.unsqueeze(1)


def logit_of_mean(logits_KB: Tensor) -> Tensor:
    """[K, B] logits to the [B] logits of the mean probability; finite for any finite logits."""
    log_mean = torch.logsumexp(functional.logsigmoid(logits_KB), dim=0)
    return log_mean - torch.logsumexp(functional.logsigmoid(-logits_KB), dim=0)
