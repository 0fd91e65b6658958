"""Learned projections of vector columns, such as pretrained embeddings of texts and images, to the width of a feature.

Shapes: B rows of a batch, N dense columns, M dense columns that are no components of vectors, d numbers of a vector,
D width of an embedding.
"""

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor, nn

from recsys.nn.embeddings import module_name
from recsys.schema.resolved import Schema


class VectorProjections(nn.Module):
    """Projects each vector x of standardized numbers to an embedding W x + b; a missing vector is 0, so that it is b.

    W starts uniform within (d D)^-1/2: the embedding of a vector starts as large as that of one number by
    `LinearEmbeddings`, whatever d.

    Args:
        schema: the roles of the dense columns.
        dim: D, width of an embedding.
        names: the vectors to project; all others are left out.
    """

    def __init__(self, schema: Schema, dim: int, names: Collection[str] | None = None) -> None:
        super().__init__()
        vectors = [vector for vector in schema.vectors if names is None or vector.name in names]
        start = {vector.name: schema.dense.index(vector.columns[0]) for vector in schema.vectors}
        self.names = tuple(vector.name for vector in vectors)
        self._columns = [(start[vector.name], start[vector.name] + vector.size) for vector in vectors]
        components = {column for vector in schema.vectors for column in vector.columns}
        self.others = tuple(column for column in schema.dense if column not in components)
        """Names of the M dense columns that are no components of vectors."""
        first = min(start.values(), default=0)
        self._all = (first, first + len(components))
        self.maps = nn.ModuleDict({module_name(v.name): _projection(v.size, dim) for v in vectors})

    def forward(self, dense_BN: Tensor) -> list[Tensor]:
        """Returns the [B, D] embedding of each vector."""
        maps = zip(self.maps.values(), self._columns, strict=True)
        return [layer(dense_BN[:, start:end]) for layer, (start, end) in maps]

    def without(self, dense_BN: Tensor) -> Tensor:
        """Returns the [B, M] dense columns that are no components of vectors."""
        first, end = self._all
        if first == end:
            return dense_BN
        return torch.cat([dense_BN[:, :first], dense_BN[:, end:]], dim=1)


def _projection(size: int, dim: int) -> nn.Linear:
    layer, bound = nn.Linear(size, dim), (size * dim) ** -0.5
    nn.init.uniform_(layer.weight, -bound, bound)
    nn.init.uniform_(layer.bias, -(dim**-0.5), dim**-0.5)
    return layer


def groups_of_numbers(schema: Schema) -> np.ndarray:
    """The [N] groups of dense columns, whose weights have one standard deviation: 0, and from 1 on those of vectors."""
    group = np.zeros(len(schema.dense), np.int64)
    for number, vector in enumerate(schema.vectors, 1):
        first = schema.dense.index(vector.columns[0])
        group[first : first + vector.size] = number
    return group
