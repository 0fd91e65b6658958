"""What the candidates of a user share: in the first layers of a network it is multiplied once per user.

Shapes: U users, n candidates of each user, B = U n rows, X width of a row's inputs, H width of a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ranking.dcnv2 import CrossNet
from recsys.nn.layers import MLP, LogitHead
from recsys.nn.vectors import VectorProjections
from recsys.schema.resolved import Schema


def item_columns(schema: Schema) -> frozenset[str]:
    """The columns of the item, which candidates have: those of the item tower and the target item."""
    return frozenset({*schema.towers.get("item", ()), *([schema.target_item] if schema.target_item else [])})


def sources_of(feature: str, schema: Schema) -> tuple[str, ...]:
    """The columns of the files that a categorical feature, a sequence or a dense column is computed from."""
    sequences = {sequence.name: sequence.column for sequence in schema.token_sequences}
    if feature in sequences:
        return (sequences[feature],)
    for statistics in schema.statistics:
        if feature in statistics.numeric:
            return (sequences[statistics.sequence],)
    for vector in schema.vectors:
        if feature == vector.name or feature in vector.columns:
            return (vector.name,)
    if feature in schema.formulas:
        return schema.formulas[feature].columns
    if feature in schema.categorical or feature in schema.products:
        return schema.derived_categorical.get(feature, (feature,))
    if feature in schema.measured:
        return (feature,)
    if (position := schema.dense.index(feature) - len(schema.numeric)) < len(schema.missing_indicators):
        return sources_of(schema.missing_indicators[position][0], schema)
    return sources_of(feature[feature.index("(") + 1 : -1], schema)  # an encoding from counts, such as ctr(ad)


def shared_features(features: Sequence[str], schema: Schema) -> list[bool]:
    """Whether each feature is computed from columns that the candidates of a user share."""
    items = item_columns(schema)
    return [bool(items) and items.isdisjoint(sources_of(name, schema)) for name in features]


def shared_columns(schema: Schema) -> tuple[str, ...]:
    """The columns of a request that candidates share, as far as categorical features and dense columns read them."""
    features = (*schema.categorical, *(s.name for s in schema.token_sequences), *schema.dense)
    is_shared = shared_features(features, schema)
    read = [c for name, flag in zip(features, is_shared, strict=True) if flag for c in sources_of(name, schema)]
    return tuple(dict.fromkeys(read))


@dataclass(frozen=True)
class Blocks:
    """Inputs of equal width, side by side: embeddings of features, or dense columns."""

    is_shared: Sequence[bool]
    """Whether the candidates of a user share each of them."""
    width: int


class DenseInputs(nn.Module):
    """The inputs that a trained model computes from dense columns: projections of vectors, then numbers.

    Args:
        vectors: the projections of the model.
        numeric: its embeddings of numbers.
    """

    def __init__(self, vectors: VectorProjections, numeric: nn.Module) -> None:
        super().__init__()
        self.vectors, self.numeric = vectors, numeric

    def blocks(self, schema: Schema, dim: int, d_numeric: int) -> list[Blocks]:
        """Describes the inputs.

        Args:
            schema: the schema of the split.
            dim: width of the projection of a vector.
            d_numeric: width of what a number becomes.
        """
        numbers = Blocks(shared_features(self.vectors.others, schema), d_numeric)
        names = self.vectors.names
        return [*([Blocks(shared_features(names, schema), dim)] if names else []), numbers]

    def forward(self, dense_BN: Tensor) -> list[Tensor]:
        """Returns the [B, ...] inputs of [B, N] dense columns: a tensor for each of the blocks."""
        projected = self.vectors(dense_BN)
        numbers_BX = self.numeric(self.vectors.without(dense_BN)).flatten(1)
        return [*([torch.cat(projected, dim=1)] if projected else []), numbers_BX]


class SharedLayers(nn.Module):
    """The cross layers and the MLP of a trained model. In the first layer of each, whose input is known for all
    candidates, the part of the user is multiplied once per user: W x = W_shared x_shared + W_own x_own.

    Args:
        cross: cross layers; None if there are none.
        mlp: an MLP that reads the same inputs; None for one above the crosses.
        inputs: the X inputs of a row, end to end.
    """

    def __init__(self, cross: CrossNet | None, mlp: MLP | None, inputs: Sequence[Blocks]) -> None:
        super().__init__()
        self.cross, self.mlp = cross, mlp
        firsts: list[nn.Linear] = []
        if cross is not None:
            layer = cross.layers[0]
            firsts.append(cast(nn.Linear, layer[0] if isinstance(layer, nn.Sequential) else layer))
        if mlp is not None:
            firsts.append(cast(nn.Linear, cast(nn.Sequential, mlp.layers[0])[0]))
        self._widths = [first.out_features for first in firsts]
        weight_HX = torch.cat([first.weight.detach() for first in firsts])
        biases = [torch.zeros(first.out_features) if first.bias is None else first.bias.detach() for first in firsts]
        self.shared = _Part(weight_HX, torch.cat(biases), inputs, side=True)
        self.own = _Part(weight_HX, None, inputs, side=False)

    def forward(
        self, inputs: Sequence[Tensor], of_user: Sequence[Tensor], n_candidates: int
    ) -> tuple[Tensor | None, Tensor | None]:
        """Returns the [B, X] crosses and the [B, H] output of the MLP.

        Args:
            inputs: [B, ...] of each of the blocks.
            of_user: [U, ...] of each of the blocks: those of the first candidate.
            n_candidates: n.
        """
        x0_BX = torch.cat(list(inputs), dim=1)
        own_UnH = self.own(inputs).unflatten(0, (-1, n_candidates))
        products = list((own_UnH + self.shared(of_user).unsqueeze(1)).flatten(0, 1).split(self._widths, dim=1))
        cross_BX = None if self.cross is None else self._crosses(self.cross, x0_BX, products.pop(0))
        return cross_BX, None if self.mlp is None else self._through(self.mlp, products[0])

    @staticmethod
    def _crosses(cross: CrossNet, x0_BX: Tensor, product_BH: Tensor) -> Tensor:
        """`CrossNet.forward` after the first product."""
        first, *others = cross.layers
        x_BX = x0_BX * (first[1](product_BH) if isinstance(first, nn.Sequential) else product_BH) + x0_BX
        for layer in others:
            x_BX = CrossNet.cross(layer, x0_BX, x_BX) + x_BX
        return x_BX

    @staticmethod
    def _through(mlp: MLP, product_BH: Tensor) -> Tensor:
        """`MLP.forward` after the first product."""
        first, *others = mlp.layers
        hidden_BH = product_BH
        for module in [*list(cast(nn.Sequential, first))[1:], *others]:
            hidden_BH = module(hidden_BH)
        return hidden_BH


class _Part(nn.Module):
    """The product of a layer's weights with the shared inputs, or with the others.

    Args:
        weight_HX: the weights for all inputs.
        bias: [H] bias to add, if any.
        inputs: the blocks of inputs.
        side: whether to multiply those that are shared.
    """

    def __init__(self, weight_HX: Tensor, bias: Tensor | None, inputs: Sequence[Blocks], side: bool) -> None:
        super().__init__()
        self._shapes = [(len(blocks.is_shared), blocks.width) for blocks in inputs]
        columns, start = [], 0
        for number, blocks in enumerate(inputs):
            chosen = torch.tensor([index for index, flag in enumerate(blocks.is_shared) if flag == side])
            self.register_buffer(f"chosen_{number}", chosen.long())
            columns.append((start + chosen.long()[:, None] * blocks.width + torch.arange(blocks.width)).flatten())
            start += len(blocks.is_shared) * blocks.width
        self.register_buffer("weight", weight_HX[:, torch.cat(columns)].contiguous())
        self.register_buffer("bias", bias)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """[B, ...] blocks to [B, H]."""
        parts = [inputs[0][:, :0]]
        for number, (x_BX, shape) in enumerate(zip(inputs, self._shapes, strict=True)):
            chosen = self.get_buffer(f"chosen_{number}")
            if len(chosen) == shape[0]:
                parts.append(x_BX)
            elif len(chosen):  # whole blocks: single numbers are copied several times more slowly
                parts.append(x_BX.unflatten(1, shape).index_select(1, chosen).flatten(1))
        return functional.linear(torch.cat(parts, dim=1), cast(Tensor, self.weight), cast(Tensor | None, self.bias))


class Head(nn.Module):
    """A trained `LogitHead` by elementwise products and sums: a graph's product of a matrix and a vector is slower."""

    def __init__(self, head: LogitHead) -> None:
        super().__init__()
        self.linear, self._widths = head.linear, head.d_in

    def forward(self, *inputs_BD: Tensor) -> Tensor:
        """[B, D_1], [B, D_2], ... to [B] logits."""
        weights = self.linear.weight[0].split(self._widths)
        terms = [(x * w).sum(1) for x, w in zip(inputs_BD, weights, strict=True)]
        return torch.stack(terms).sum(0) + self.linear.bias
