"""Deep models as ONNX graphs and embedding tables.

A graph starts at the embeddings: the runtime looks them up in memory-mapped tables. So tables of any size and type stay
outside the graph, histories need no padding where they are averaged, and TorchRec's look-ups, which have no ONNX form,
are not traced. The graph is traced from the model's own forward pass.

Shapes: B rows, U users, n candidates of each user.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor import ShardedTensor

from ranking.din import DIN
from ranking.xdeepfm import XDeepFM
from recsys.data.batch import Batch
from recsys.errors import InputError
from recsys.nn.embeddings import PooledEmbeddings, SequenceEmbeddings, module_name
from recsys.nn.linear_part import LinearPart
from recsys.schema.resolved import Schema
from serving.export.din_graph import DINGraph
from serving.export.programs import write_program
from serving.export.smaller import shrink_weights
from serving.runtime.layout import GraphSpec, HistorySpec, LookupSpec, NumberType
from serving.runtime.models import DENSE, MASK, VALUES
from serving.runtime.tables import quantized

OPSET = 20
_LINEAR = "linear_part.ids"


class RowGraph(nn.Module):
    """A model's forward pass from the embeddings on.

    Args:
        model: a model whose only look-ups are `PooledEmbeddings`.
        lookups: the names of these modules, in the order of the inputs.
        empty: the names of those without features.
    """

    def __init__(self, model: nn.Module, lookups: Sequence[str], empty: Sequence[str]) -> None:
        super().__init__()
        self.model, self._lookups, self._empty = model, tuple(lookups), tuple(empty)

    def forward(self, dense_BN: Tensor, *embeddings: Tensor) -> Tensor:
        """Returns [B] logits."""
        for name, embedding in zip(self._lookups, embeddings, strict=True):
            self._look_up(name).given = embedding
        for name in self._empty:
            self._look_up(name).given = dense_BN[:, :0]
        none = cast(Any, None)  # the forward passes read no other part of a batch
        label = (embeddings[0] if embeddings else dense_BN)[:, 0]  # its length is that of the batch
        batch = Batch(dense=dense_BN, sparse=none, sequences=none, label=label, row=none, is_real=none, n_rows=0)
        return cast(Tensor, self.model(batch))

    def _look_up(self, name: str) -> PooledEmbeddings:
        return cast(PooledEmbeddings, self.model.get_submodule(name))


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


def write_graph(
    model: nn.Module, schema: Schema, folder: Path, prefix: str, weights: NumberType, has_program: bool = False
) -> GraphSpec:
    """Writes the graph and the embedding tables of a deep model.

    Args:
        model: a trained model on the CPU.
        schema: the schema of its split.
        folder: the folder of the bundle.
        prefix: path of the files in it, without the end of their names.
        weights: the type of the numbers of tables and matrices.
        has_program: whether to write the graph as a program of torch.export too, whose matrices are float32.

    Raises:
        InputError: for a model that cannot be exported.
    """
    writer = TableWriter(folder, prefix, weights, schema, model.state_dict(), has_program)
    spec = _write(model, schema, writer, f"{prefix}.onnx")
    shrink_weights(folder / spec.file, weights)
    return spec


def _write(model: nn.Module, schema: Schema, writer: TableWriter, file: str) -> GraphSpec:
    model.eval()
    part = getattr(model, "linear_part", None)
    if isinstance(part, LinearPart) and not part.share:
        model.register_module("linear_part", None)
    vocabulary_of = {name: vocabulary for vocabulary, names in schema.vocabularies.items() for name in names}
    if isinstance(model, DIN):
        return _write_din(model, schema, writer, vocabulary_of, file)
    modules = dict(model.named_modules())
    names = [name for name, module in modules.items() if isinstance(module, PooledEmbeddings)]
    if any(isinstance(module, SequenceEmbeddings) for module in modules.values()):
        raise InputError(f"{type(model).__name__} reads sequences event by event, which has no exported form")
    rows = dimension("rows")
    if isinstance(model, XDeepFM) and not model.embeddings.features:
        raise InputError(
            "xdeepfm without categorical features and sequences has no interactions to export: export another model"
        )
    lookups, inputs, shapes = [], [torch.randn(3, len(schema.dense))], [{0: rows}]
    for name in names:
        embeddings = cast(PooledEmbeddings, modules[name])
        if not embeddings.features:
            continue
        lookups.append(lookup_of(name, name, embeddings.features, writer, vocabulary_of))
        inputs.append(torch.randn(3, len(embeddings.features) * embeddings.embedding_dim))
        shapes.append({0: rows})
        embeddings.collection = nn.Identity()  # the tables are written: the graph has none
    read = [lookup.input for lookup in lookups]
    graph = RowGraph(model, read, [name for name in names if name not in read])
    trace(graph, inputs, shapes, [DENSE, *read], writer.folder / file, has_program=writer.has_program)
    return GraphSpec(file=file, lookups=tuple(lookups))


def lookup_of(
    input_name: str, attribute: str, features: Sequence[str], writer: TableWriter, vocabulary_of: dict[str, str]
) -> LookupSpec:
    """Writes the tables of the features of an input."""
    path, scales, first = writer.write(attribute, [vocabulary_of[name] for name in features])
    rows = tuple(first[vocabulary_of[name]] for name in features)
    return LookupSpec(input=input_name, features=tuple(features), first_rows=rows, table=path, scales=scales)


def _write_din(model: DIN, schema: Schema, writer: TableWriter, vocabulary_of: dict[str, str], file: str) -> GraphSpec:
    """Writes the graph of DIN for the candidates of users, see `DINGraph`."""
    columns_of = {feature.name: feature.columns for feature in schema.column_sequences}
    tokens = [name for name in model.sequences if name not in columns_of]
    path, scales, first = writer.write("events", [vocabulary_of[name] for name in (*model.item, *tokens)])
    rows = tuple(first[vocabulary_of[name]] for name in model.item)
    target = LookupSpec(input="target", features=model.item, first_rows=rows, table=path, scales=scales)
    dim = model.features.embedding_dim
    users, candidates = dimension("users"), dimension("candidates")
    each: dict[int, Any] = {0: users, 1: candidates}
    inputs = [torch.randn(2, 3, len(schema.dense)), torch.randn(2, 3, len(model.item) * dim)]
    shapes, names, lookups = [each, each], [DENSE, "target"], [target]
    if model.features.features:
        lookups.append(lookup_of("features", "features", model.features.features, writer, vocabulary_of))
        inputs.append(torch.randn(2, 3, len(model.features.features) * dim))
        shapes.append(each)
        names.append("features")
    if model.linear_part is not None:
        ids = model.linear_part.ids
        lookups.append(lookup_of(_LINEAR, _LINEAR, ids.features, writer, vocabulary_of))
        inputs.append(torch.randn(2, 3, len(ids.features) * ids.embedding_dim))
        shapes.append(each)
        names.append(_LINEAR)
    histories = []
    for index, name in enumerate(model.sequences):
        names += [f"{VALUES}:{name}", f"{MASK}:{name}"]
        if name in columns_of:
            columns = tuple(schema.measured.index(column) for column in columns_of[name])
            histories.append(HistorySpec(name=name, columns=columns))
            inputs += [torch.randn(2, len(columns)), torch.ones(2, len(columns))]
            shapes += [{0: users}, {0: users}]
        else:
            first_row = first[vocabulary_of[name]]
            histories.append(HistorySpec(name=name, table=path, scales=scales, first_row=first_row))
            events = dimension(f"events_{index}")
            inputs += [torch.randn(2, 4, dim), torch.ones(2, 4)]
            shapes += [{0: users, 1: events}, {0: users, 1: events}]
    graph = DINGraph(model, bool(model.features.features))
    trace(graph, inputs, shapes, names, writer.folder / file, n_named=2, has_program=writer.has_program)
    return GraphSpec(file=file, lookups=tuple(lookups), histories=tuple(histories))


def dimension(name: str) -> Any:
    """An axis of any length from 1."""
    return torch.export.Dim(name, min=1, max=1 << 20)


@torch.no_grad()
def trace(
    graph: nn.Module,
    inputs: Sequence[Tensor],
    shapes: Sequence[dict[int, Any]],
    names: Sequence[str],
    path: Path,
    n_named: int = 1,
    has_program: bool = False,
) -> None:
    """Traces a module with example inputs, and writes the graph.

    Args:
        graph: the module.
        inputs: examples of its arguments.
        shapes: for each of them, the axes that may have any length.
        names: the names of the inputs.
        path: the file to write.
        n_named: the number of arguments before `*args` of its forward pass.
        has_program: whether to write it as a program of torch.export too.
    """
    dynamic_shapes = (*shapes[:n_named], *([others] if (others := tuple(shapes[n_named:])) else []))
    with _quiet():
        if has_program:
            write_program(graph, inputs, dynamic_shapes, path.with_suffix(""))
        program = torch.onnx.export(
            graph.eval(),
            tuple(inputs),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=dynamic_shapes,
            input_names=list(names),
            output_names=["logit"],
            verbose=False,
        )
    assert program is not None
    check_any_length(program, shapes)
    program.save(str(path), external_data=False)


def check_any_length(program: torch.onnx.ONNXProgram, shapes: Sequence[dict[int, Any]]) -> None:
    """Checks that a graph takes inputs of any length: the exporter may fix an axis to the length of its example.

    Raises:
        InputError: if it does not.
    """
    for value, axes in zip(program.model.graph.inputs, shapes, strict=True):
        for axis in axes:
            if value.shape is None or isinstance(value.shape[axis], int):
                raise InputError(
                    f"the graph's input {value.name} has a fixed number of rows: a model of your own must take it from "
                    "shape[0] of a tensor, not from len"
                )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides messages of the exporter that users cannot act on."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
