"""The deep models of a bundle: graphs in ONNX Runtime.

Shapes: n candidates of a request, U requests, L events of the longest history, D width.
"""

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime as ort

from serving.runtime.layout import GraphSpec, HistorySpec, LookupSpec
from serving.runtime.split_encoder import SplitEncoder, SplitInputs
from serving.runtime.tables import Table, mean_by_row
from serving.runtime.trees import MIN_ROWS

DENSE, MASK, VALUES = "dense", "mask", "values"


class Model(Protocol):
    """A fitted model."""

    def logits(self, requests: Sequence[SplitInputs]) -> np.ndarray:
        """Returns the float32 logits of the candidates of requests, end to end."""


class Lookup:
    """Embeddings of features, side by side: an input of a graph."""

    def __init__(self, spec: LookupSpec, folder: Path, encoder: SplitEncoder, vocabulary_of: dict[str, str]) -> None:
        self.input, self._encoder = spec.input, encoder
        self._table = _table(folder, spec.table, spec.scales)
        self.width = len(spec.features) * self._table.dim
        single = [i for i, name in enumerate(spec.features) if name in encoder.needs.categorical]
        assert single == list(range(len(single))), "sequences come after categorical features"
        names = [spec.features[i] for i in single]
        self._columns = np.array([encoder.needs.categorical.index(name) for name in names], np.int64)
        self._starts = encoder.starts_of([vocabulary_of[name] for name in names])
        self._first_rows = np.array([spec.first_rows[i] for i in single], np.int64)
        self._pooled = [
            (name, vocabulary_of[name], first)
            for name, first in list(zip(spec.features, spec.first_rows, strict=True))[len(single) :]
        ]

    def write(self, inputs: SplitInputs, out: np.ndarray) -> None:
        """Writes the [n, width] embeddings of a request."""
        dim, n_single = self._table.dim, len(self._columns)
        if n_single:
            ids = self._encoder.ids[inputs.encoded.codes[:, self._columns] + self._starts]
            self._table.gather(ids + self._first_rows, out)
        for number, (name, vocabulary, first) in enumerate(self._pooled, n_single):
            tokens = inputs.encoded.tokens[name]
            vectors = self._table.rows(self._encoder.ids_of(tokens.codes, vocabulary) + first)
            out[:, number * dim : (number + 1) * dim] = mean_by_row(vectors, tokens.offsets)


class GraphModel:
    """A deep model whose graph scores rows.

    Args:
        spec: the model.
        folder: the folder of the bundle.
        encoder: the encoder of its split.
        vocabulary_of: the vocabulary of each feature.
        n_threads: threads of a call.
    """

    def __init__(
        self, spec: GraphSpec, folder: Path, encoder: SplitEncoder, vocabulary_of: dict[str, str], n_threads: int
    ) -> None:
        self._graph = Graph(folder / spec.file, n_threads)
        self._lookups = [Lookup(lookup, folder, encoder, vocabulary_of) for lookup in spec.lookups]
        self._inputs = self._graph.inputs

    def logits(self, requests: Sequence[SplitInputs]) -> np.ndarray:
        """See `Model`."""
        return self._graph(self.feeds(requests), 0)

    def feeds(self, requests: Sequence[SplitInputs]) -> dict[str, np.ndarray]:
        """The inputs of the rows of all requests."""
        n = sum(inputs.encoded.n for inputs in requests)
        feeds = {}
        for lookup in self._lookups:
            if lookup.input not in self._inputs:
                continue
            out, start = np.empty((n, lookup.width), np.float32), 0
            for inputs in requests:
                lookup.write(inputs, out[start : start + inputs.encoded.n])
                start += inputs.encoded.n
            feeds[lookup.input] = out
        if DENSE in self._inputs:
            dense = [inputs.dense for inputs in requests]
            feeds[DENSE] = dense[0] if len(dense) == 1 else np.concatenate(dense)
        return feeds


class UserModel(GraphModel):
    """A deep model whose graph scores the candidates of users, and computes what these share once per user."""

    def __init__(
        self, spec: GraphSpec, folder: Path, encoder: SplitEncoder, vocabulary_of: dict[str, str], n_threads: int
    ) -> None:
        super().__init__(spec, folder, encoder, vocabulary_of, n_threads)
        self._encoder = encoder
        self._histories = [History(history, folder, encoder, vocabulary_of) for history in spec.histories]
        self._shared = frozenset(spec.shared)

    def logits(self, requests: Sequence[SplitInputs]) -> np.ndarray:
        """See `Model`. Requests with equally many candidates are scored together."""
        n_of = [inputs.encoded.n for inputs in requests]
        if len(requests) == 1 or len(set(n_of)) == 1:
            return self._run(requests)
        starts, logits = np.cumsum([0, *n_of]), np.empty(sum(n_of), np.float32)
        for n in sorted(set(n_of)):
            positions = [index for index, of in enumerate(n_of) if of == n]
            result = self._run([requests[index] for index in positions]).reshape(len(positions), n)
            for row, index in enumerate(positions):
                logits[starts[index] : starts[index + 1]] = result[row]
        return logits

    def _run(self, requests: Sequence[SplitInputs]) -> np.ndarray:
        """Scores requests of n candidates each, as n candidates of one user each where all candidates share the
        histories and the other shared columns, else as a user of one candidate each."""
        n = requests[0].encoded.n
        is_shared = all(self._shared.isdisjoint(inputs.encoded.own) for inputs in requests) and all(
            history.is_shared(inputs) for history in self._histories for inputs in requests
        )
        n_users, n_each = (len(requests), n) if is_shared else (n * len(requests), 1)
        rows = {name: value.reshape(n_users, n_each, -1) for name, value in self.feeds(requests).items()}
        histories: dict[str, np.ndarray] = {}
        for history in self._histories:
            histories |= history.feeds(requests, is_shared)
        histories = {name: value for name, value in histories.items() if name in self._inputs}
        if n_each == 1:
            return self._graph(rows | histories, 0)
        return self._graph(rows, 1, histories)


class History:
    """The events of one sequence: inputs of a graph."""

    def __init__(self, spec: HistorySpec, folder: Path, encoder: SplitEncoder, vocabulary_of: dict[str, str]) -> None:
        self.name, self._encoder, self._columns = spec.name, encoder, list(spec.columns)
        self._table = _table(folder, spec.table, spec.scales) if spec.table is not None else None
        self._vocabulary, self._first_row = vocabulary_of.get(spec.name, ""), spec.first_row
        self._sources = frozenset(encoder.spec.measured[column] for column in spec.columns)

    def is_shared(self, inputs: SplitInputs) -> bool:
        """Whether all candidates of a request have the same history."""
        if self._table is None:
            return self._sources.isdisjoint(inputs.encoded.own)
        return len(inputs.encoded.tokens[self.name].offsets) == 2

    def feeds(self, requests: Sequence[SplitInputs], is_shared: bool) -> dict[str, np.ndarray]:
        """The [U, L, D] events or [U, L] values, and the [U, L] mask of those that are present."""
        if self._table is None:
            parts = [self._of_users(inputs.measured[:, self._columns], inputs, is_shared) for inputs in requests]
            values = np.concatenate(parts) if len(parts) > 1 else parts[0]
            mask = ~np.isnan(values)
            return {
                f"{VALUES}:{self.name}": np.nan_to_num(values, nan=0.0),
                f"{MASK}:{self.name}": mask.astype(np.float32),
            }
        lengths, codes = [], []
        for inputs in requests:
            tokens = inputs.encoded.tokens[self.name]
            lengths.append(np.diff(tokens.offsets))
            codes.append(tokens.codes)
            if not is_shared and len(tokens.offsets) == 2 and inputs.encoded.n > 1:
                lengths[-1] = np.repeat(lengths[-1], inputs.encoded.n)
                codes[-1] = np.tile(tokens.codes, inputs.encoded.n)
        length = np.concatenate(lengths)
        longest = max(int(length.max(initial=0)), 1)  # graphs have no empty axes
        mask = np.arange(longest) < length[:, None]
        events = np.zeros((len(length), longest, self._table.dim), np.float32)
        ids = self._encoder.ids_of(np.concatenate(codes), self._vocabulary)
        events[mask] = self._table.rows(ids + self._first_row)
        return {f"{VALUES}:{self.name}": events, f"{MASK}:{self.name}": mask.astype(np.float32)}

    @staticmethod
    def _of_users(values: np.ndarray, inputs: SplitInputs, is_shared: bool) -> np.ndarray:
        if is_shared:
            return values[:1]
        return values if len(values) > 1 else np.repeat(values, inputs.encoded.n, axis=0)


def _table(folder: Path, table: str, scales: str | None) -> Table:
    return Table(folder / table, None if scales is None else folder / scales)


class Graph:
    """A graph in ONNX Runtime.

    Rows are divided among threads. Each runs the whole graph on its share, so they meet once, not at every operation.

    Args:
        path: the graph.
        n_threads: threads of a call.
    """

    def __init__(self, path: Path, n_threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # the extended level fuses a transposed sum of xDeepFM's into other numbers (onnxruntime 1.32), and makes none
        # faster
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.log_severity_level = 3  # errors
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = {value.name for value in self._session.get_inputs()}
        self._n_threads = n_threads
        self._pool = ThreadPoolExecutor(n_threads - 1) if n_threads > 1 else None

    def __call__(
        self, rows: dict[str, np.ndarray], axis: int, common: dict[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Returns the [n] or [users * n] logits of rows.

        Args:
            rows: inputs whose axis `axis` is that of the rows; on axis 1 the rows are the candidates of users.
            axis: 0 or 1.
            common: inputs that all rows read.
        """
        shape = next(iter(rows.values())).shape
        n, common = shape[axis], common or {}
        n_parts = min(self._n_threads, n * (shape[0] if axis else 1) // MIN_ROWS, n)
        if n_parts < 2 or self._pool is None:
            return self._run(rows | common)
        cuts = np.linspace(0, n, n_parts + 1).astype(int)
        parts = [
            {name: np.ascontiguousarray(value[:, a:b] if axis else value[a:b]) for name, value in rows.items()} | common
            for a, b in itertools.pairwise(cuts)
        ]
        others = [self._pool.submit(self._run, part) for part in parts[1:]]
        results = [self._run(parts[0]), *(other.result() for other in others)]
        if axis == 0:
            return np.concatenate(results)
        return np.concatenate([result.reshape(shape[0], -1) for result in results], axis=1).reshape(-1)

    def _run(self, feeds: dict[str, np.ndarray]) -> np.ndarray:
        logits: np.ndarray = self._session.run(None, feeds)[0]
        return logits
