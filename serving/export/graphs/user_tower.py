"""The user tower of a retrieval model as a graph, on padded histories.

Shapes: U requests, L events of the longest history, S = L + 1 steps, D width, H heads, X width of embeddings.
"""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.errors import InputError
from recsys.schema.resolved import Schema
from retrieval.two_tower import TwoTower
from serving.export.graphs.tables import GraphInputs, TableWriter, vocabulary_of
from serving.export.graphs.tracing import dimension, trace
from serving.runtime.layout import GraphSpec, HistorySpec
from serving.runtime.models import MASK, VALUES


class PaddedSteps:
    """Attention over the steps of padded rows, like `LengthGroups` and `PaddedRows`, whose shapes depend on the data.

    Args:
        n_rows: U.
        n_steps: S.
    """

    def __init__(self, n_rows: int, n_steps: int) -> None:
        self._n_rows, self._n_steps = n_rows, n_steps

    def attend(self, q: Tensor, k: Tensor, v: Tensor, n_heads: int) -> Tensor:
        """Softmax attention of each step over the steps up to it: [U * S, D] to [U * S, D]."""
        q, k, v = (self._heads(x, n_heads) for x in (q, k, v))
        score_UHSS = (q * q.shape[3] ** -0.5) @ k.transpose(2, 3)
        return self._joined(score_UHSS.masked_fill(self._distance() < 0, -1e30).softmax(3) @ v)

    def attend_pointwise(self, q: Tensor, k: Tensor, v: Tensor, bias_HP: Tensor) -> Tensor:
        """HSTU's attention, see `LengthGroups.attend_pointwise`: [U * S, D] to [U * S, D]."""
        n_heads, n_positions = bias_HP.shape
        q, k, v = (self._heads(x, n_heads) for x in (q, k, v))
        distance_SS = self._distance()
        bias_HSS = bias_HP[:, distance_SS.clamp(min=0)]
        weight_UHSS = functional.silu(q @ k.transpose(2, 3) + bias_HSS) * (distance_SS >= 0)
        return self._joined(weight_UHSS @ v / n_positions)

    def _distance(self) -> Tensor:
        place_S = torch.arange(self._n_steps)
        return place_S.unsqueeze(1) - place_S

    def _heads(self, x: Tensor, n_heads: int) -> Tensor:
        return self.pad(x).unflatten(2, (n_heads, -1)).transpose(1, 2)

    def _joined(self, x_UHSD: Tensor) -> Tensor:
        return self.unpad(x_UHSD.transpose(1, 2).flatten(2))

    def pad(self, x: Tensor) -> Tensor:
        """[U * S, ...] to [U, S, ...]."""
        return x.unflatten(0, (self._n_rows, self._n_steps))

    def unpad(self, x: Tensor) -> Tensor:
        """[U, S, ...] to [U * S, ...]."""
        return x.flatten(0, 1)


class UserGraph(nn.Module):
    """Computes the vectors of requests from the embeddings on.

    Args:
        model: trained towers.
        has_features: whether the user has categorical features, or averaged sequences.
    """

    def __init__(self, model: TwoTower, has_features: bool) -> None:
        super().__init__()
        self.model, self._has_features = model, has_features

    def forward(self, dense_U1N: Tensor, *others: Tensor) -> Tensor:
        """Returns [U, D] vectors.

        Args:
            dense_U1N: dense columns; without sequences, [U, N].
            others: the [U, 1, X] embeddings of the user's features, if there are any (without sequences, [U, X]); then
                for each sequence that is read event by event its [U, L, D] events, and the [U, L] mask of those that
                are present.
        """
        model = self.model
        features = [others[0].flatten(1)] if self._has_features else []
        histories = others[len(features) :]
        pooled, state = [], []
        for index, name in enumerate(sequences_by_event(model)):
            event_ULD, mask_UL = histories[2 * index : 2 * index + 2]
            if name == model.causal_over:
                state.append(_last_state(cast(nn.Module, model.encoder), event_ULD, mask_UL))
            else:
                pooled.append(self._pooled(name, event_ULD, mask_UL))
        dense = model.request_dense.of_columns(dense_U1N.flatten(1))
        return model.user_vectors_of([*pooled, *features, *dense], state)

    def _pooled(self, name: str, event_ULD: Tensor, mask_UL: Tensor) -> Tensor:
        """See `retrieval.pooling.pool_sequence`: [U, D]."""
        length_U1 = mask_UL.sum(dim=1, keepdim=True)
        if self.model.pooling == "last":
            weight_UL = mask_UL * (mask_UL.cumsum(dim=1) == length_U1)
        elif name in self.model.queries:
            score_UL = (event_ULD @ self.model.queries[name]).masked_fill(mask_UL == 0, -1e30)
            weight_UL = score_UL.softmax(dim=1) * mask_UL
        else:
            weight_UL = mask_UL / length_U1.clamp(min=1)
        return (weight_UL.unsqueeze(1) @ event_ULD).squeeze(1)


def sequences_by_event(model: TwoTower) -> tuple[str, ...]:
    """The sequences of the user that are read event by event, the causal one first."""
    return (*([model.causal_over] if model.causal_over else []), *model.by_step)


def _last_state(encoder: nn.Module, event_ULD: Tensor, mask_UL: Tensor) -> Tensor:
    """The [U, D] vectors of the last steps, see `CausalEncoder.last` and `SequentialEncoder.last`."""
    parts = cast(Any, encoder)
    n_rows, n_steps = event_ULD.shape[0], event_ULD.shape[1] + 1
    start_U1D = torch.zeros_like(event_ULD[:, :1])
    x_USD = torch.cat([start_U1D, event_ULD * mask_UL.unsqueeze(2)], dim=1) + parts.position.weight[:n_steps]
    steps, x = PaddedSteps(n_rows, n_steps), x_USD.flatten(0, 1)
    for layer in parts.layers:
        x = layer(x, steps)
    last_U = mask_UL.sum(dim=1).long()
    is_last_US = (torch.arange(n_steps) == last_U.unsqueeze(1)).to(x.dtype)
    return (is_last_US.unsqueeze(1) @ steps.pad(parts.norm(x))).squeeze(1)


def write_user_tower(model: TwoTower, schema: Schema, folder: Path, prefix: str) -> GraphSpec:
    """Writes the graph and the embedding tables of the user tower.

    Args:
        model: trained towers on the CPU.
        schema: the schema of their split.
        folder: the folder of the bundle.
        prefix: path of the files in it, without the end of their names.

    Raises:
        InputError: for towers that cannot be exported.
    """
    if model.request_dense.steps:
        name = next(iter(model.request_dense.steps))
        raise InputError(
            f"the user tower reads the group of columns {name!r}, which has no exported form: remove it from "
            "schema.towers, or name its columns in schema.numeric"
        )
    model.eval()
    writer = TableWriter(folder, prefix, "fp32", schema, model.state_dict())
    requests, sequences = dimension("requests"), sequences_by_event(model)
    features, vocabularies = model.request_features, vocabulary_of(schema)
    candidates = (1,) if sequences else ()  # a graph with histories has an axis for the candidates of a user
    inputs, histories = GraphInputs(writer, schema, (2, *candidates), {0: requests}), []
    inputs.look_up(features, "request_features", "features")
    if sequences:
        path, scales, first = writer.write("events", [vocabularies[name] for name in sequences])
        for index, name in enumerate(sequences):
            histories.append(HistorySpec(name=name, table=path, scales=scales, first_row=first[vocabularies[name]]))
            events: dict[int, Any] = {0: requests, 1: dimension(f"events_{index}")}
            inputs.add(f"{VALUES}:{name}", torch.randn(2, 4, features.embedding_dim), events)
            inputs.add(f"{MASK}:{name}", torch.ones(2, 4), events)
    for child in (model.events, model.request_features, model.ad_features):
        if child is not None:
            child.collection = nn.Identity()  # the tables are written: the graph has none
    file = f"{prefix}.onnx"
    graph = UserGraph(model, bool(features.features))
    trace(graph, inputs.examples, inputs.shapes, inputs.names, folder / file)
    return GraphSpec(file=file, lookups=tuple(inputs.lookups), histories=tuple(histories))
