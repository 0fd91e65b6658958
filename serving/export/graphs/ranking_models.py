"""Deep models as ONNX graphs and embedding tables.

A graph starts at the embeddings: the runtime looks them up in memory-mapped tables. So tables of any size and type stay
outside the graph, histories need no padding where they are averaged, and TorchRec's look-ups, which have no ONNX form,
are not traced. The graph is traced from the model's own forward pass, but for models that multiply what the candidates
of a user share once.

Shapes: B rows, U users, n candidates of each user.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ranking.dcnv2 import DCNv2
from ranking.din import DIN
from ranking.onetrans.model import OneTrans
from ranking.xdeepfm import XDeepFM
from recsys.data.batch import Batch
from recsys.errors import InputError
from recsys.nn.embeddings import PooledEmbeddings, SequenceEmbeddings
from recsys.nn.linear_part import LinearPart
from recsys.schema.resolved import Schema
from serving.export.graphs.dcnv2 import DCNv2Graph
from serving.export.graphs.din import DINGraph
from serving.export.graphs.onetrans import OneTransGraph
from serving.export.graphs.shared import shared_columns
from serving.export.graphs.smaller import shrink_weights
from serving.export.graphs.tables import GraphInputs, TableWriter, vocabulary_of
from serving.export.graphs.tracing import dimension, trace
from serving.runtime.layout import GraphSpec, HistorySpec, LookupSpec, NumberType
from serving.runtime.models import MASK, VALUES

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
    if isinstance(model, DIN | OneTrans):
        return _write_with_histories(model, schema, writer, file)
    if isinstance(model, DCNv2) and shared_columns(schema):
        return _write_dcnv2(model, schema, writer, file)
    modules = dict(model.named_modules())
    if any(isinstance(module, SequenceEmbeddings) for module in modules.values()):
        raise InputError(f"{type(model).__name__} reads sequences event by event, which has no exported form")
    if isinstance(model, XDeepFM) and not model.embeddings.features:
        raise InputError(
            "xdeepfm without categorical features and sequences has no interactions to export: export another model"
        )
    inputs = GraphInputs(writer, schema, (3,), {0: dimension("rows")})
    all_embeddings = {name: module for name, module in modules.items() if isinstance(module, PooledEmbeddings)}
    for name, embeddings in all_embeddings.items():
        inputs.look_up(embeddings, name)
        if embeddings.features:
            embeddings.collection = nn.Identity()  # the tables are written: the graph has none
    read = inputs.names[1:]
    graph = RowGraph(model, read, [name for name in all_embeddings if name not in read])
    return _traced(graph, inputs, writer, file)


def _write_dcnv2(model: DCNv2, schema: Schema, writer: TableWriter, file: str) -> GraphSpec:
    """Writes the graph of DCN V2 for the candidates of users, see `DCNv2Graph`."""
    inputs = GraphInputs(writer, schema, (2, 3), {0: dimension("users"), 1: dimension("candidates")})
    inputs.look_up(model.embeddings, "embeddings")
    if model.linear_part is not None:
        inputs.look_up(model.linear_part.ids, _LINEAR)
    return _traced(DCNv2Graph(model, schema), inputs, writer, file, shared=shared_columns(schema))


def _write_with_histories(model: DIN | OneTrans, schema: Schema, writer: TableWriter, file: str) -> GraphSpec:
    """Writes the graph of a model that reads events for the candidates of users, see `DINGraph`, `OneTransGraph`."""
    columns_of = {feature.name: feature.columns for feature in schema.column_sequences}
    vocabularies, dim = vocabulary_of(schema), model.features.embedding_dim
    tokens = [name for name in model.sequences if name not in columns_of]
    path, scales, first = writer.write("events", [vocabularies[name] for name in (*model.item, *tokens)])
    users = dimension("users")
    inputs = GraphInputs(writer, schema, (2, 3), each := {0: users, 1: dimension("candidates")})
    rows = tuple(first[vocabularies[name]] for name in model.item)
    inputs.lookups.append(LookupSpec(input="target", features=model.item, first_rows=rows, table=path, scales=scales))
    inputs.add("target", torch.randn(2, 3, len(model.item) * dim), each)
    inputs.look_up(model.features, "features")
    if model.linear_part is not None:
        inputs.look_up(model.linear_part.ids, _LINEAR)
    histories = []
    for index, name in enumerate(model.sequences):
        if name in columns_of:
            columns = tuple(schema.measured.index(column) for column in columns_of[name])
            histories.append(HistorySpec(name=name, columns=columns))
            values, axes = torch.randn(2, len(columns)), {0: users}
        else:
            histories.append(HistorySpec(name=name, table=path, scales=scales, first_row=first[vocabularies[name]]))
            values, axes = torch.randn(2, 4, dim), {0: users, 1: dimension(f"events_{index}")}
        inputs.add(f"{VALUES}:{name}", values, axes)
        inputs.add(f"{MASK}:{name}", torch.ones(values.shape[:2]), axes)
    graph = DINGraph(model, schema) if isinstance(model, DIN) else OneTransGraph(model)
    return _traced(graph, inputs, writer, file, 2, histories, shared_columns(schema))


def _traced(
    graph: nn.Module,
    inputs: GraphInputs,
    writer: TableWriter,
    file: str,
    n_named: int = 1,
    histories: Sequence[HistorySpec] = (),
    shared: Sequence[str] = (),
) -> GraphSpec:
    path = writer.folder / file
    trace(graph, inputs.examples, inputs.shapes, inputs.names, path, n_named, writer.has_program)
    return GraphSpec(file=file, lookups=tuple(inputs.lookups), histories=tuple(histories), shared=tuple(shared))
