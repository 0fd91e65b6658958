"""Writes the embedding tables of a fit, and collects the inputs of its graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributed._shard.sharded_tensor import ShardedTensor

from recsys.nn.embeddings import PooledEmbeddings, module_name
from recsys.schema.resolved import Schema
from serving.runtime.layout import LookupSpec, NumberType
from serving.runtime.models import DENSE
from serving.runtime.tables import quantized


@dataclass(frozen=True)
class TableWriter:
    """Writes the embedding tables of a fit."""

    folder: Path
    """The folder of the bundle."""
    prefix: str
    """The path of the fit's files in it, without the end of their names."""
    numbers: NumberType
    schema: Schema
    weights: dict[str, Tensor]
    """The tensors of the model, by name."""
    has_program: bool = False
    """Whether graphs are written as programs of torch.export too."""

    def write(self, attribute: str, vocabularies: Sequence[str]) -> tuple[str, str | None, dict[str, int]]:
        """Writes the tables of vocabularies end to end; returns the files, and the first row of each vocabulary."""
        parts, first, start = [], {}, 0
        for vocabulary in dict.fromkeys(vocabularies):
            parts.append(self._weight(attribute, vocabulary))
            first[vocabulary] = start
            start += len(parts[-1])
        table, path, scales = np.concatenate(parts), f"{self.prefix}.{attribute}.npy", None
        if self.numbers == "int8":
            table, factors = quantized(table)
            scales = f"{self.prefix}.{attribute}.scales.npy"
            np.save(self.folder / scales, factors)
        np.save(self.folder / path, table.astype(np.float16) if self.numbers == "fp16" else table)
        return path, scales, first

    def _weight(self, attribute: str, vocabulary: str) -> np.ndarray:
        end = f".{module_name(vocabulary)}.weight"
        (name,) = (name for name in self.weights if name.startswith(f"{attribute}.") and name.endswith(end))
        weight = whole(self.weights[name])
        assert len(weight) == self.schema.num_embeddings[vocabulary]
        return weight


class GraphInputs:
    """The inputs of a graph whose embeddings are looked up outside it: dense columns, then embeddings.

    Args:
        writer: writes the tables of the embeddings.
        schema: the schema of the split.
        shape: the axes of rows, with the lengths of an example.
        axes: the axes that may have any length.
    """

    def __init__(self, writer: TableWriter, schema: Schema, shape: tuple[int, ...], axes: dict[int, Any]) -> None:
        self._writer, self._shape, self._axes = writer, shape, axes
        self._vocabulary_of = vocabulary_of(schema)
        self.names = [DENSE]
        self.examples = [torch.randn(*shape, len(schema.dense))]
        self.shapes = [axes]
        self.lookups: list[LookupSpec] = []

    def add(self, name: str, example: Tensor, axes: dict[int, Any]) -> None:
        """Adds an input."""
        self.names.append(name)
        self.examples.append(example)
        self.shapes.append(axes)

    def look_up(self, embeddings: PooledEmbeddings, attribute: str, name: str | None = None) -> None:
        """Adds embeddings if they have features, and writes their tables.

        Args:
            embeddings: the module.
            attribute: its name in the model.
            name: the name of the input; by default that of the module.
        """
        if not embeddings.features:
            return
        vocabularies = [self._vocabulary_of[feature] for feature in embeddings.features]
        path, scales, first = self._writer.write(attribute, vocabularies)
        rows = tuple(first[vocabulary] for vocabulary in vocabularies)
        self.lookups.append(
            LookupSpec(
                input=name or attribute,
                features=tuple(embeddings.features),
                first_rows=rows,
                table=path,
                scales=scales,
            )
        )
        width = len(embeddings.features) * embeddings.embedding_dim
        self.add(name or attribute, torch.randn(*self._shape, width), self._axes)


def vocabulary_of(schema: Schema) -> Mapping[str, str]:
    """The vocabulary of each feature."""
    return {name: vocabulary for vocabulary, names in schema.vocabularies.items() for name in names}


def whole(tensor: Tensor | ShardedTensor) -> np.ndarray:
    """A tensor of this process as an array; the shards of a sharded one side by side."""
    if not isinstance(tensor, ShardedTensor):
        return tensor.detach().float().cpu().numpy()
    values = np.empty(tuple(tensor.size()), np.float32)
    for part in tensor.local_shards():
        rows, columns = part.metadata.shard_offsets
        local = part.tensor.detach().float().cpu().numpy()
        values[rows : rows + local.shape[0], columns : columns + local.shape[1]] = local
    return values
