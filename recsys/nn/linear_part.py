"""The linear part of a deep model: a logistic regression, with which the network's logit is mixed.

Shapes: B rows of a batch, F categorical features, N dense columns.
"""

import torch
from torch import Tensor, nn

from recsys.data.batch import Batch
from recsys.nn.embeddings import PooledEmbeddings
from recsys.schema.resolved import Schema

_WIDTH = 4
"""Fused kernels read four numbers at a time; the weight of an id is their mean."""


class FixedEmbeddings(PooledEmbeddings):
    """Embeddings of categorical features that training neither reads nor changes; zeros until they are set."""

    def __init__(self, schema: Schema, embedding_dim: int) -> None:
        super().__init__(schema, embedding_dim, (), 0.0)

    def look_up(self, batch: Batch) -> Tensor:
        """[B, F * D] embeddings, without a gradient."""
        with torch.no_grad():
            return super().look_up(batch)


class LinearPart(nn.Module):
    """A logistic regression on ids and dense columns: logit = (1 - share) network + share regression.

    With few rows per id a network memorizes what each id adds by itself, where a linear model with a penalty finds it;
    with many rows, or where combinations decide, the network is better. The share is what the monitored rows favour.
    Both are trained apart: a network that learns what a linear model leaves starts with small products of small
    embeddings, and hardly learns (docs/defaults.md).

    `recsys.training.linear_part` fits it and sets the share. Until then the share is zero.

    Args:
        schema: features, their numbers of ids, and dense columns.
    """

    dense_weights: Tensor
    """[N] float32."""
    bias: Tensor
    """[] float32."""
    share: Tensor
    """[] float32, from 0 to 1."""

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.ids = FixedEmbeddings(schema, _WIDTH)
        self.register_buffer("dense_weights", torch.zeros(len(schema.dense)))
        self.register_buffer("bias", torch.zeros(()))
        self.register_buffer("share", torch.zeros(()))

    def mixed(self, logit_B: Tensor, id_BX: Tensor, dense_BN: Tensor) -> Tensor:
        """[B] logits of the network with those of the regression.

        Args:
            logit_B: logits of the network.
            id_BX: [B, 4 F] embeddings of the ids.
            dense_BN: dense columns.
        """
        with torch.autocast(dense_BN.device.type, enabled=False):
            linear_B = self.bias + id_BX.float().sum(1) / _WIDTH + dense_BN.float() @ self.dense_weights
        return logit_B + self.share * (linear_B - logit_B)


def build_linear_part(is_on: bool | str, schema: Schema) -> LinearPart | None:
    """The linear part of a model; None for false, and for the `auto` of runs from before there was one."""
    return LinearPart(schema) if is_on is True else None


def with_linear_part(part: LinearPart | None, batch: Batch, logit_B: Tensor) -> Tensor:
    """[B] logits of a network, in evaluation mixed with those of its linear part if it has one."""
    if part is None or part.training:
        return logit_B
    return part.mixed(logit_B, part.ids(batch), batch.dense)


def fixed_parameters(model: nn.Module) -> set[int]:
    """The ids of the parameters that no update reads or changes: the tables of a linear part."""
    return {id(p) for m in model.modules() if isinstance(m, FixedEmbeddings) for p in m.parameters()}


def linear_part_of(model: nn.Module) -> LinearPart | None:
    """The linear part of a model, if it has one."""
    return next((module for module in model.modules() if isinstance(module, LinearPart)), None)
