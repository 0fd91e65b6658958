"""DCN V2: explicit feature crosses beside, or below, a deep network."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from recsys.batch import Batch
from recsys.embeddings import PooledEmbeddings
from recsys.layers import MLP, LogitHead, concat
from recsys.schema import Schema, StrictModel


class DCNv2Config(StrictModel):
    """Sizes of a DCN V2."""

    name: Literal["dcnv2"] = "dcnv2"
    embedding_dim: int = Field(default=16, ge=1)
    embedding_init_std: float = Field(default=0.05, gt=0)
    cross_depth: int = Field(default=3, ge=1)
    cross_rank: int | None = Field(default=None, ge=1)
    """Rank of the cross matrices; null for full rank."""
    structure: Literal["parallel", "stacked"] = "parallel"
    hidden_dims: tuple[int, ...] = Field(default=(256, 128, 64), min_length=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    pool_sequences: bool = True
    """Reads each token sequence as the mean of its embeddings."""


class CrossNet(nn.Module):
    """x_{l+1} = x_0 * (W_l x_l + b_l) + x_l, with W_l = U_l V_l^T of rank r where one is given.

    Source: Wang et al., "DCN V2", WWW 2021 (arXiv 2008.13535), equations 1 and 2.
    NOTE[DIFF]: the low-rank form is the single-expert one, without the paper's gate over several experts.
    """

    def __init__(self, width: int, depth: int, rank: int | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(width, width)
            if rank is None
            else nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))
            for _ in range(depth)
        )

    def forward(self, x_BX: Tensor) -> Tensor:
        """[B, X] to [B, X]."""
        x0_BX = x_BX
        for layer in self.layers:
            x_BX = x0_BX * layer(x_BX) + x_BX
        return x_BX


class DCNv2(nn.Module):
    """Logits from crosses and an MLP over [embeddings, dense columns].

    parallel: logit = w^T [cross(x_0), mlp(x_0)]; stacked: logit = w^T mlp(cross(x_0)). Source: DCN V2, figure 1.

    Args:
        config: sizes.
        schema: features and table sizes.
    """

    def __init__(self, config: DCNv2Config, schema: Schema) -> None:
        super().__init__()
        self.sequences = tuple(s.name for s in schema.token_sequences) if config.pool_sequences else ()
        self.embeddings = PooledEmbeddings(schema, config.embedding_dim, self.sequences, config.embedding_init_std)
        width = len(self.embeddings.features) * config.embedding_dim + len(schema.dense)
        self.cross = CrossNet(width, config.cross_depth, config.cross_rank)
        self.mlp = MLP(width, config.hidden_dims, config.dropout)
        self.is_parallel = config.structure == "parallel"
        self.head = LogitHead(*([width] if self.is_parallel else []), self.mlp.d_out)

    def forward(self, batch: Batch) -> Tensor:
        """[B] logits."""
        x0_BX = concat([self.embeddings(batch), batch.dense])
        cross_BX = self.cross(x0_BX)
        if self.is_parallel:
            return self.head(cross_BX, self.mlp(x0_BX))
        return self.head(self.mlp(cross_BX))
