"""xDeepFM: a compressed interaction network beside a deep network and a linear part."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ranking.model_config import DeepModelConfig
from recsys.data.batch import Batch
from recsys.nn.embeddings import PooledEmbeddings
from recsys.nn.layers import MLP, LogitHead, concat
from recsys.schema.resolved import Schema

_FIRST_ORDER_WIDTH = 4  # fused kernels read four numbers at a time; their mean is an id's weight


class XDeepFMConfig(DeepModelConfig):
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

    Where f is the identity, maps that only the output reads are never made: sum_d sum_ij W_ij X_id X^0_jd is W on the
    inner products of the fields, which costs D times less.

    Args:
        n_fields: M.
        layer_dims: feature maps H_k of each layer.
        split_half: whether half of the maps go on and half out.
        activation: f.
    """

    def __init__(self, n_fields: int, layer_dims: tuple[int, ...], split_half: bool, activation: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        n_in, self.d_out = n_fields, 0
        for number, n_maps in enumerate(layer_dims):
            is_last = number == len(layer_dims) - 1
            n_on = 0 if is_last else n_maps // 2 if split_half else n_maps
            n_out = n_maps - n_on if split_half else n_maps
            self.layers.append(_CINLayer(n_in, n_fields, n_maps, n_on, n_out, activation == "identity"))
            n_in, self.d_out = n_on, self.d_out + n_out

    def forward(self, x0_BMD: Tensor) -> Tensor:
        """[B, M, D] field embeddings to [B, d_out]."""
        x0_MBD = x0_BMD.transpose(0, 1).contiguous()
        x_HBD, outputs = x0_MBD, []
        for layer in self.layers:
            out_BO, x_HBD = layer(x_HBD, x0_MBD)
            outputs.append(out_BO)
        return concat(outputs)


class _CINLayer(nn.Linear):
    """One layer: the first `n_on` maps go on, the last `n_out` out."""

    def __init__(self, n_in: int, n_fields: int, n_maps: int, n_on: int, n_out: int, is_linear: bool) -> None:
        super().__init__(n_in * n_fields, n_maps)
        self.n_on, self.n_out, self.is_linear = n_on, n_out, is_linear

    def forward(self, x_HBD: Tensor, x0_MBD: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """[H, B, D] and [M, B, D] to the output [B, n_out] and the maps that go on [n_on, B, D]."""
        weight, bias = self.weight, self.bias
        n_maps = len(weight)
        is_apart = self.is_linear and self.n_on + self.n_out == n_maps  # what goes out is not made for another reason
        n_made = self.n_on if is_apart else n_maps
        maps_OBD = self._maps(x_HBD, x0_MBD, n_made) if n_made else x_HBD[:0]
        if is_apart:
            inner_BHM = torch.bmm(x_HBD.transpose(0, 1), x0_MBD.permute(1, 2, 0))
            out_BO = functional.linear(inner_BHM.flatten(1), weight[n_made:], bias[n_made:] * x_HBD.shape[2])
        else:
            out_BO = maps_OBD[n_maps - self.n_out :].sum(2).T
        return out_BO, maps_OBD[: self.n_on]

    def _maps(self, x_HBD: Tensor, x0_MBD: Tensor, n_made: int) -> Tensor:
        """[n_made, B, D]: the first maps of all."""
        weight, (n_in, n_fields) = self.weight[:n_made], (len(x_HBD), len(x0_MBD))
        if x_HBD is x0_MBD:  # x_i x_j and x_j x_i are one product
            first, second = torch.triu_indices(n_fields, n_fields, device=weight.device)
            weight = weight[:, first * n_fields + second] + (first != second) * weight[:, second * n_fields + first]
            products_PBD = x0_MBD[first] * x0_MBD[second]
        else:
            products_PBD = (x_HBD.unsqueeze(1) * x0_MBD.unsqueeze(0)).view(n_in * n_fields, *x0_MBD.shape[1:])
        maps_OX = weight @ products_PBD.flatten(1)
        maps_OBD = maps_OX.view(n_made, *x0_MBD.shape[1:]) + self.bias[:n_made, None, None].to(maps_OX.dtype)
        return maps_OBD if self.is_linear else maps_OBD.relu()


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
