"""xDeepFM: a compressed interaction network (CIN) in parallel with a deep network and a linear model.

Source: Lian et al., "xDeepFM: combining explicit and implicit feature interactions for recommender systems", KDD 2018
(arXiv 1803.05170).

Shapes: B rows of a batch, F fields, D embedding width, H feature maps of the previous layer, O feature maps of a
layer's output, P pairs of maps, X width of concatenated vectors.
"""

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from ranking.model_config import LinearPartConfig, Widths
from recsys import defaults
from recsys.data.batch import Batch
from recsys.defaults import AUTO, Auto, DataSize
from recsys.nn.embeddings import PooledEmbeddings
from recsys.nn.layers import MLP, LogitHead, aligned, concat, concat_aligned
from recsys.nn.linear_part import build_linear_part, with_linear_part
from recsys.nn.numeric import NumericEmbeddings, build_numeric_embeddings
from recsys.nn.vectors import VectorProjections
from recsys.schema.resolved import Schema

_FIRST_ORDER_WIDTH = 4  # fused kernels read four numbers at a time; the weight of an id is their mean


class XDeepFMConfig(LinearPartConfig):
    """Hyperparameters of xDeepFM."""

    name: Literal["xdeepfm"] = "xdeepfm"
    embedding_dim: int = Field(default=16, ge=1)
    embedding_init_std: float = Field(default=0.01, gt=0)
    numeric_embeddings: NumericEmbeddings = "none"
    """How numeric columns enter the CIN and the MLP. none: as they are, and only the MLP; otherwise as fields of
    embedding_dim. linear: times a vector each; periodic: a linear map of sines and cosines with learned frequencies;
    piecewise_linear: a linear map of the shares of 16 bins of equal probability; quantized: a vector of each bin."""
    cin_dims: Auto[Widths] = AUTO
    """Feature maps of each CIN layer."""
    cin_split_half: bool = True
    """Whether half of a layer's maps go to the next layer and half to the output; otherwise all go to both."""
    cin_activation: Literal["identity", "relu"] = "identity"
    hidden_dims: Auto[Widths] = AUTO
    dropout: float = Field(default=0.1, ge=0, lt=1)
    batch_norm: bool = False
    """Batch normalization in the MLP's layers."""
    gradient_checkpointing: bool = False
    """Trades time for memory: recomputes the MLP's activations in the backward pass."""
    pool_sequences: bool = True
    """Adds the mean embedding of each token sequence as a field."""

    @model_validator(mode="after")
    def _check_halves(self) -> "XDeepFMConfig":
        if self.cin_dims != AUTO and self.cin_split_half and min(self.cin_dims[:-1], default=2) < 2:
            raise ValueError(
                f"cin_split_half needs two feature maps in every layer but the last, got cin_dims={self.cin_dims}"
            )
        return self

    def values_for(self, size: DataSize) -> dict[str, Any]:
        """See `LinearPartConfig`."""
        sizes = {"cin_dims": defaults.cin_dims(size), "hidden_dims": defaults.hidden_dims(size)}
        return super().values_for(size) | sizes


class CIN(nn.Module):
    """Computes feature maps X^k from weighted products of field embeddings; outputs each map's sum over D.

    X^k_h = f(sum_ij W^kh_ij X^{k-1}_i * X^0_j).

    Source: xDeepFM, equations 6 and 7; the half split is from the authors' code.

    If f is the identity, maps that only the output uses are not computed: sum_d sum_ij W_ij X_id X^0_jd equals W
    applied to the inner products of the fields, at 1 / D of the cost.

    Args:
        n_fields: F, number of fields.
        layer_dims: feature maps H_k of each layer.
        split_half: whether half of the maps go to the next layer and half to the output.
        activation: f, "identity" or "relu".
    """

    def __init__(self, n_fields: int, layer_dims: tuple[int, ...], split_half: bool, activation: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        n_in, self.d_out = n_fields, 0
        for number, n_maps in enumerate(layer_dims):
            is_last = number == len(layer_dims) - 1
            n_next = 0 if is_last else n_maps // 2 if split_half else n_maps
            n_out = n_maps - n_next if split_half else n_maps
            self.layers.append(_CINLayer(n_in, n_fields, n_maps, n_next, n_out, activation == "identity"))
            n_in, self.d_out = n_next, self.d_out + n_out

    def forward(self, x0_BFD: Tensor) -> Tensor:
        """[B, F, D] field embeddings to [B, d_out]."""
        x0_FBD = x0_BFD.transpose(0, 1).contiguous()
        x_HBD, outputs = x0_FBD, []
        for layer in self.layers:
            out_BO, x_HBD = layer(x_HBD, x0_FBD)
            outputs.append(out_BO)
        return concat(outputs)


class _CINLayer(nn.Linear):
    """Computes one CIN layer: the first `n_next` maps go to the next layer, the last `n_out` to the output."""

    def __init__(self, n_in: int, n_fields: int, n_maps: int, n_next: int, n_out: int, is_linear: bool) -> None:
        super().__init__(n_in * n_fields, n_maps)
        self.n_next, self.n_out, self.is_linear = n_next, n_out, is_linear

    def forward(self, x_HBD: Tensor, x0_FBD: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Returns the [B, n_out] output and the [n_next, B, D] maps for the next layer."""
        weight, bias = self.weight, self.bias
        n_maps = len(weight)
        uses_inner_products = self.is_linear and self.n_next + self.n_out == n_maps  # no map goes to both
        n_computed = self.n_next if uses_inner_products else n_maps
        maps_OBD = self._maps(x_HBD, x0_FBD, n_computed) if n_computed else x_HBD[:0]
        if uses_inner_products:
            fields_FBD = _filled(x0_FBD)
            inner_BX = torch.bmm(x_HBD.transpose(0, 1), fields_FBD.permute(1, 2, 0)).flatten(1)
            if len(fields_FBD) > len(x0_FBD):
                pairs_OHF = weight.view(n_maps, len(x_HBD), len(x0_FBD))
                weight = functional.pad(pairs_OHF, (0, len(fields_FBD) - len(x0_FBD))).flatten(1)
            out_BO = functional.linear(inner_BX, weight[n_computed:], bias[n_computed:] * x_HBD.shape[2])
        else:
            out_BO = maps_OBD[n_maps - self.n_out :].sum(2).T
        return out_BO, maps_OBD[: self.n_next]

    def _maps(self, x_HBD: Tensor, x0_FBD: Tensor, n_maps: int) -> Tensor:
        """Returns the first `n_maps` maps: [n_maps, B, D]."""
        weight, (n_in, n_fields) = self.weight[:n_maps], (len(x_HBD), len(x0_FBD))
        if x_HBD is x0_FBD:  # x_i x_j equals x_j x_i: compute each product once
            first, second = torch.triu_indices(n_fields, n_fields, device=weight.device)
            weight = weight[:, first * n_fields + second] + (first != second) * weight[:, second * n_fields + first]
            products_PBD = _pairs(x0_FBD, first, second)
            weight = functional.pad(weight, (0, len(products_PBD) - len(first)))
        else:
            products_PBD = (x_HBD.unsqueeze(1) * x0_FBD.unsqueeze(0)).view(n_in * n_fields, *x0_FBD.shape[1:])
        flat_maps = weight @ products_PBD.flatten(1)
        maps_OBD = flat_maps.view(n_maps, *x0_FBD.shape[1:]) + self.bias[:n_maps, None, None].to(flat_maps.dtype)
        return maps_OBD if self.is_linear else maps_OBD.relu()


def _pairs(x0_FBD: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The [P, B, D] products of the fields `first` and `second`, the upper triangle; on a GPU an aligned number of
    them, the last ones zero, and by slices, because the gradient of an index adds up slowly there."""
    device = x0_FBD.device.type
    if aligned(1, device) == 1:
        return x0_FBD[first] * x0_FBD[second]
    rows = [x0_FBD[number : number + 1] * x0_FBD[number:] for number in range(len(x0_FBD))]
    return torch.cat([*rows, x0_FBD.new_zeros(aligned(len(first), device) - len(first), *x0_FBD.shape[1:])])


def _filled(x0_FBD: Tensor) -> Tensor:
    """The fields, and fields of zeros up to an aligned number of them."""
    n_missing = aligned(len(x0_FBD), x0_FBD.device.type) - len(x0_FBD)
    return torch.cat([x0_FBD, x0_FBD.new_zeros(n_missing, *x0_FBD.shape[1:])]) if n_missing else x0_FBD


class XDeepFM(nn.Module):
    """Computes a logit as the sum of a linear model, a CIN and an MLP.

    logit = w_linear^T [ids, dense] + w_cin^T cin(embeddings) + w_deep^T mlp([embeddings, dense]) + b. With embeddings
    of the dense columns, these are fields of the CIN, and the MLP reads them in place of the columns; so are the
    projections of vectors.

    Source: xDeepFM, equation 9.

    Args:
        config: hyperparameters.
        schema: features and table sizes.
    """

    Config = XDeepFMConfig
    fixed_shapes = True
    branches = ("cin", "mlp", "linear")

    def __init__(self, config: XDeepFMConfig, schema: Schema) -> None:
        super().__init__()
        self.sequences = tuple(s.name for s in schema.token_sequences) if config.pool_sequences else ()
        std, dim = config.embedding_init_std, config.embedding_dim
        self.embeddings = PooledEmbeddings(schema, dim, self.sequences, std)
        self.id_weights = PooledEmbeddings(schema, _FIRST_ORDER_WIDTH, self.sequences, std)
        self.vectors = VectorProjections(schema, dim)
        n_fields, n_numbers = len(self.embeddings.features) + len(self.vectors.names), len(self.vectors.others)
        self.numeric = build_numeric_embeddings(config.numeric_embeddings, n_numbers, dim)
        self.has_numeric_fields = n_numbers > 0 and config.numeric_embeddings != "none"
        if self.has_numeric_fields:
            n_fields += n_numbers
        self.cin = CIN(n_fields, config.cin_dims, config.cin_split_half, config.cin_activation)
        checkpointing = config.gradient_checkpointing
        width = n_fields * dim + (0 if self.has_numeric_fields else n_numbers)
        self.mlp = MLP(width, config.hidden_dims, config.dropout, config.batch_norm, checkpointing)
        self.head = LogitHead(self.cin.d_out, self.mlp.d_out, len(schema.dense))
        self.linear_part = build_linear_part(config.linear_part, schema)

    def forward(self, batch: Batch) -> Tensor:
        """Returns [B] logits."""
        linear_B, terms_KB = self._terms(batch)
        return with_linear_part(self.linear_part, batch, linear_B + self.head.logits(terms_KB))

    def with_branches(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns [B] logits, and the [3, B] logits of the CIN, the MLP and the linear model."""
        linear_B, terms_KB = self._terms(batch)
        whole_KB = torch.stack([*terms_KB[:2], terms_KB[2] + linear_B])
        return self.head.logits(whole_KB), self.head.branch_logits(whole_KB)

    def _terms(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the [B] term of the linear model of ids, and the [3, B] terms of the CIN, MLP and dense columns."""
        numeric_BX = self.numeric(self.vectors.without(batch.dense)).flatten(1)
        fields, others = ([numeric_BX], []) if self.has_numeric_fields else ([], [numeric_BX])
        x_BX = concat([self.embeddings(batch), *self.vectors(batch.dense), *fields])
        x_BFD = x_BX.unflatten(1, (-1, self.embeddings.embedding_dim))
        linear_B = self.id_weights(batch).float().sum(1) / _FIRST_ORDER_WIDTH
        deep_BX = self.mlp(concat_aligned([x_BX, *others]))
        return linear_B, self.head.terms_of(self.cin(x_BFD), deep_BX, batch.dense)
