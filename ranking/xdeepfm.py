"""xDeepFM: a compressed interaction network beside a deep network and a linear part."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from recsys.batch import Batch
from recsys.config import StrictModel
from recsys.embeddings import PooledEmbeddings
from recsys.layers import MLP, LogitHead, concat
from recsys.schema import Schema

_FIRST_ORDER_WIDTH = 4  # fused kernels read four numbers at a time; their mean is an id's weight


class XDeepFMConfig(StrictModel):
    """Sizes of an xDeepFM."""

    name: Literal["xdeepfm"] = "xdeepfm"
    embedding_dim: int = Field(default=16, ge=1)
    embedding_init_std: float = Field(default=0.05, gt=0)
    cin_dims: tuple[int, ...] = Field(default=(128, 128), min_length=1)
    """Feature maps of each layer of the interaction network."""
    cin_split_half: bool = True
    """Half of a layer's maps go to the next layer and half to the output; else all go to both."""
    cin_activation: Literal["identity", "relu"] = "identity"
    hidden_dims: tuple[int, ...] = Field(default=(256, 128, 64), min_length=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    batch_norm: bool = False
    """Of the MLP's layers."""
    gradient_checkpointing: bool = False
    """Trades time for memory: activations of the MLP are computed anew in the backward pass."""
    pool_sequences: bool = True
    """Reads each token sequence as the mean of its embeddings."""


class CIN(nn.Module):
    """X^k_h = f(sum_ij W^kh_ij X^{k-1}_i * X^0_j), and each map's sum over the embedding as the output.

    Source: Lian et al., "xDeepFM", KDD 2018 (arXiv 1803.05170), equations 6 and 7; the half split is their code's.

    Args:
        n_fields: M.
        layer_dims: feature maps H_k of each layer.
        split_half: whether half of the maps go on and half out.
        activation: f.
    """

    def __init__(self, n_fields: int, layer_dims: tuple[int, ...], split_half: bool, activation: str) -> None:
        super().__init__()
        self.layers, self.n_out = nn.ModuleList(), []
        n_in = n_fields
        for number, n_maps in enumerate(layer_dims):
            self.layers.append(nn.Linear(n_in * n_fields, n_maps))
            is_split = split_half and number < len(layer_dims) - 1
            n_in = n_maps // 2 if is_split else n_maps
            self.n_out.append(n_maps - n_in if is_split else n_maps)
        self.d_out = sum(self.n_out)
        self.activation = nn.ReLU() if activation == "relu" else nn.Identity()

    def forward(self, x0_BMD: Tensor) -> Tensor:
        """[B, M, D] field embeddings to [B, d_out]."""
        x0_BDM = x0_BMD.transpose(1, 2)
        x_BDH, outputs = x0_BDM, []
        for layer, n_out in zip(self.layers, self.n_out, strict=True):
            products_BDHM = x_BDH.unsqueeze(3) * x0_BDM.unsqueeze(2)
            maps_BDH = self.activation(layer(products_BDHM.flatten(2)))
            outputs.append(maps_BDH[..., -n_out:].sum(1))
            x_BDH = maps_BDH[..., :-n_out] if n_out < maps_BDH.shape[2] else maps_BDH
        return concat(outputs)


class XDeepFM(nn.Module):
    """logit = w_linear^T [ids, dense] + w_cin^T cin(embeddings) + w_deep^T mlp([embeddings, dense]) + b.

    Source: xDeepFM, equation 9.

    Args:
        config: sizes.
        schema: features and table sizes.
    """

    def __init__(self, config: XDeepFMConfig, schema: Schema) -> None:
        super().__init__()
        self.sequences = tuple(s.name for s in schema.token_sequences) if config.pool_sequences else ()
        std, dim = config.embedding_init_std, config.embedding_dim
        self.embeddings = PooledEmbeddings(schema, dim, self.sequences, std)
        self.id_weights = PooledEmbeddings(schema, _FIRST_ORDER_WIDTH, self.sequences, std)
        n_fields, n_dense = len(self.embeddings.features), len(schema.dense)
        self.cin = CIN(n_fields, config.cin_dims, config.cin_split_half, config.cin_activation)
        saves_memory = config.gradient_checkpointing
        self.mlp = MLP(n_fields * dim + n_dense, config.hidden_dims, config.dropout, config.batch_norm, saves_memory)
        self.head = LogitHead(self.cin.d_out, self.mlp.d_out, n_dense)

    def forward(self, batch: Batch) -> Tensor:
        """[B] logits."""
        x_BX = concat([self.embeddings(batch)])
        x_BMD = x_BX.unflatten(1, (-1, self.embeddings.embedding_dim))
        linear_B = self.id_weights(batch).float().sum(1) / _FIRST_ORDER_WIDTH
        deep_BX = self.mlp(concat([x_BX, batch.dense]))
        return linear_B + self.head(self.cin(x_BMD), deep_BX, batch.dense)
