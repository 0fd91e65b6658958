"""Encodes requests: the columns of the user once, those of the candidates for each of them.

Shapes: n candidates, F categorical features, M numeric columns.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys.raw.derive import derive_number
from recsys.schema.features import StatisticsFeature
from recsys.schema.resolved import Schema
from serving.runtime.histories import TokenReader, Tokens
from serving.runtime.layout import BundleSpec, GraphSpec
from serving.runtime.numbers import NumberReader, read_vector_column
from serving.runtime.request import Request
from serving.runtime.values import RawColumn, Values
from serving.runtime.vocabulary import ValueIndex


@dataclass(frozen=True)
class Encoded:
    """An encoded request; none of the values depends on a split."""

    n: int
    codes: np.ndarray
    """[n, F] int32 codes of the features in `Needs.categorical`."""
    shared_values: np.ndarray
    """[1, ...] float32 raw numbers that all candidates share."""
    shared_columns: tuple[int, ...]
    """Their positions in `Needs.measured`."""
    values: np.ndarray
    """[n, ...] float32 raw numbers of the candidates."""
    columns: tuple[int, ...]
    """Their positions in `Needs.measured`."""
    tokens: dict[str, Tokens]
    """By sequence, of n rows, or of a single one that all candidates share."""
    own: Collection[str]
    """The columns of the candidates."""


@dataclass(frozen=True)
class Needs:
    """What the models of a bundle read."""

    categorical: tuple[str, ...]
    measured: tuple[str, ...]
    numbers: tuple[str, ...]
    """The columns of a request that are read as numbers."""
    vectors: tuple[str, ...]
    """The columns of a request that are read as vectors."""
    sequences: tuple[str, ...]
    columns: tuple[str, ...]
    """The columns of a request."""

    @classmethod
    def of(cls, spec: BundleSpec) -> "Needs":
        """Collects the features of all models."""
        schema = spec.schema_
        encoded = {encoding.feature for encoder in spec.encoders for encoding in encoder.encodings}
        used = {name for encoder in spec.encoders for name in encoder.categorical} | encoded
        categorical = tuple(name for name in schema.categorical if name in used)
        read_by_some = {column for encoder in spec.encoders for column in encoder.measured}
        measured = tuple(column for column in schema.measured if column in read_by_some)
        vectors = tuple(vector.name for vector in schema.vectors if vector.columns[0] in read_by_some)
        read = {name for member in spec.members for fit in member.fits for name in _sequences_of(fit.model)} | encoded
        for feature in schema.statistics:
            if {*feature.numeric, *feature.ends} & {*categorical, *measured}:
                read.add(feature.sequence)
        tokens = [sequence for sequence in schema.token_sequences if sequence.name in read]
        single = [c for name in categorical for c in schema.derived_categorical.get(name, (name,))]
        sources = [c for name, formula in schema.formulas.items() if name in measured for c in formula.columns]
        derived = set(schema.derived_numeric)
        measured_in_files = [name for name in measured if name not in derived]
        numbers = tuple(dict.fromkeys([*measured_in_files, *sources]))
        columns = tuple(dict.fromkeys([*single, *numbers, *vectors, *(sequence.column for sequence in tokens)]))
        return cls(categorical, measured, numbers, vectors, tuple(sequence.name for sequence in tokens), columns)


def _sequences_of(model: object) -> list[str]:
    if not isinstance(model, GraphSpec):
        return []
    pooled = [name for lookup in model.lookups for name in lookup.features]
    return [*pooled, *(history.name for history in model.histories)]


class RequestEncoder:
    """Encodes the columns that the models of a bundle read.

    Args:
        spec: the bundle.
        indexes: the vocabularies.
    """

    def __init__(self, spec: BundleSpec, indexes: dict[str, ValueIndex]) -> None:
        self.needs = needs = Needs.of(spec)
        self._schema = schema = spec.schema_
        self._formulas = [name for name in schema.formulas if name in needs.measured]
        self._reader = NumberReader(spec.kinds, schema.offsets)
        ends = {name: (feature, end) for feature in schema.statistics for name, end in feature.ends.items()}
        self._features: list[tuple[int, Values]] = []
        self._ends: list[tuple[int, str, str]] = []
        for position, name in enumerate(needs.categorical):
            if name in ends:
                feature, end = ends[name]
                self._ends.append((position, feature.sequence, end))
                continue
            columns = schema.crosses.get(name, (name,))
            forms = [schema.form_of(column) for column in columns]
            refused = spec.vocabularies[name].numbers_refused
            self._features.append((position, Values(name, columns, forms, indexes[name], refused)))
        statistics = {feature.sequence: feature for feature in schema.statistics}
        self._readers = {
            sequence.name: _reader(sequence.name, schema, needs, statistics.get(sequence.name), indexes)
            for sequence in schema.token_sequences
            if sequence.name in needs.sequences
        }
        self._statistics = [
            (
                name,
                [(needs.measured.index(c), i) for i, c in enumerate(statistics[name].numeric) if c in needs.measured],
            )
            for name in self._readers
            if name in statistics
        ]
        self._numbers = needs.numbers
        self._position = {name: index for index, name in enumerate(needs.measured)}
        self._vectors = [
            (vector, [self._position[column] for column in vector.columns])
            for vector in schema.vectors
            if vector.name in needs.vectors
        ]

    def __call__(self, request: Request) -> Encoded:
        """Encodes a request.

        Raises:
            InputError: for a value of a type or kind that its column cannot have.
        """
        n, tokens = request.n, {}
        for name, reader in self._readers.items():
            column = reader.sequence.column
            is_shared = column in request.shared
            tokens[name] = reader.read([request.shared[column]] if is_shared else request.columns[column])
        codes = np.empty((n, len(self.needs.categorical)), np.int32)
        raw: dict[str, RawColumn] = {}
        for position, feature in self._features:
            first = feature.columns[0]
            code = feature.code(request.shared[first]) if first in request.shared else None
            codes[:, position] = feature.codes(self._raw(feature.columns, request, raw)) if code is None else code
        for position, sequence, end in self._ends:
            codes[:, position] = tokens[sequence].ends[end]
        shared_names = [name for name in self._numbers if name in request.shared]
        names = (
            [name for name in self._numbers if name in request.columns]
            if len(shared_names) < len(self._numbers)
            else []
        )
        row = self._reader.read_row([request.shared[name] for name in shared_names], shared_names)
        matrix = self._reader.read_columns([request.columns[name] for name in names], names, n)
        if self._formulas:
            row, shared_names, matrix, names = self._with_formulas(row, shared_names, matrix, names)
        shared, shared_columns = self._with_derived(row, shared_names, request.shared, tokens, is_shared=True)
        values, columns = self._with_derived(matrix, names, request.columns, tokens, is_shared=False)
        return Encoded(n, codes, shared, shared_columns, values, columns, tokens, request.columns.keys())

    def _raw(self, columns: Sequence[str], request: Request, read: dict[str, RawColumn]) -> list[RawColumn]:
        """The source columns of a feature: of one row if all are shared, else of n rows."""
        for name in columns:
            if name not in read:
                is_shared = name in request.shared
                read[name] = RawColumn(name, [request.shared[name]] if is_shared else request.columns[name])
        found = [read[name] for name in columns]
        if len(columns) > 1 and any(name not in request.shared for name in columns):
            return [
                column.repeated(request.n) if name in request.shared else column
                for name, column in zip(columns, found, strict=True)
            ]
        return found

    def _with_formulas(
        self, row: np.ndarray, shared_names: list[str], matrix: np.ndarray, names: list[str]
    ) -> tuple[np.ndarray, list[str], np.ndarray, list[str]]:
        """Adds the numbers that are computed from others: to the [1, ...] shared ones if all of these are shared, else
        to the [n, ...] numbers of the candidates; returns both with their names."""
        shared = {name: row[:, index] for index, name in enumerate(shared_names)}
        own = {name: matrix[:, index] for index, name in enumerate(names)}
        for name in self._formulas:
            is_shared = all(column in shared for column in self._schema.formulas[name].columns)
            number = derive_number(name, shared if is_shared else shared | own, self._schema)
            (shared if is_shared else own)[name] = number
        sides = [{name: side[name] for name in side if name in self._position} for side in (shared, own)]
        return _joined(sides[0], len(row)), list(sides[0]), _joined(sides[1], len(matrix)), list(sides[1])

    def _with_derived(
        self,
        numbers: np.ndarray,
        names: Sequence[str],
        side: dict[str, Any],
        tokens: dict[str, Tokens],
        is_shared: bool,
    ) -> tuple[np.ndarray, tuple[int, ...]]:
        """Adds the statistics of the sequences of one side of a request, and the numbers of its vectors, to its
        [n, ...] numbers; returns them and their positions."""
        parts, positions = [numbers], [self._position[name] for name in names]
        for sequence, columns in self._statistics:
            if columns and self._readers[sequence].sequence.column in side:
                parts.append(tokens[sequence].statistics[:, [source for _, source in columns]])
                positions += [position for position, _ in columns]
        for vector, vector_positions in self._vectors:
            if vector.name in side:
                parts.append(read_vector_column(vector, [side[vector.name]] if is_shared else side[vector.name]))
                positions += vector_positions
        return (parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)), tuple(positions)


def _joined(columns: dict[str, np.ndarray], n: int) -> np.ndarray:
    return np.stack(list(columns.values()), axis=1) if columns else np.zeros((n, 0), np.float32)


def _reader(
    name: str, schema: Schema, needs: Needs, statistics: StatisticsFeature | None, indexes: dict[str, ValueIndex]
) -> TokenReader:
    sequence = next(feature for feature in schema.token_sequences if feature.name == name)
    form = schema.form_of(sequence.vocabulary)
    ends, has_statistics = {}, False
    if statistics is not None:
        ends = {
            end: (schema.form_of(feature), indexes[feature])
            for feature, end in statistics.ends.items()
            if feature in needs.categorical
        }
        has_statistics = any(column in needs.measured for column in statistics.numeric)
    return TokenReader(sequence, form, indexes[sequence.vocabulary], ends, has_statistics)
