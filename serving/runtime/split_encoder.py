"""Encodes a request for one split: codes to embedding ids, raw numbers to model inputs, as `recsys.data.encoder` does.

Shapes: n candidates, N dense columns, M measured columns of the split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys.data.encodings.tokens import pool_tokens
from recsys.data.store import load_array
from recsys.data.transforms import NumericTransformer
from serving.runtime.encoder import Encoded, Needs
from serving.runtime.layout import IDS_FILE, EncoderSpec, EncodingSpec


@dataclass(frozen=True)
class SplitInputs:
    """A request encoded for one split."""

    encoded: Encoded
    measured: np.ndarray
    """[n, M] float32 transformed numbers, NaN for null; a single row if all candidates share them."""
    dense: np.ndarray
    """[n, N] float32."""


class SplitEncoder:
    """The encoder of one split.

    Args:
        spec: the encoder.
        folder: its folder in the bundle.
        needs: what the encoded request holds.
    """

    def __init__(self, spec: EncoderSpec, folder: Path, needs: Needs) -> None:
        self.spec, self.needs = spec, needs
        self.ids = np.ascontiguousarray(load_array(folder / IDS_FILE))
        self.categorical = np.array([needs.categorical.index(name) for name in spec.categorical], np.int64)
        """The split's features among the columns of the codes."""
        self._position = {needs.measured.index(name): index for index, name in enumerate(spec.measured)}
        self._indicators = list(spec.indicators)
        tables = [(encoding, np.ascontiguousarray(load_array(folder / encoding.file))) for encoding in spec.encodings]
        self._encodings = [(needs.categorical.index(of.feature), table) for of, table in tables if not of.mean]
        self._of_tokens = [_TokenEncoding(of, table) for of, table in tables if of.mean]
        self._transformers: dict[tuple[int, ...], tuple[list[int], list[int], NumericTransformer]] = {}

    def __call__(self, encoded: Encoded) -> SplitInputs:
        """Encodes a request."""
        measured = self._measured(encoded)
        n_numeric = self.spec.n_numeric
        parts = [np.nan_to_num(measured[:, :n_numeric], nan=0.0)]
        if self._indicators:
            parts.append(np.isnan(measured[:, self._indicators]).astype(np.float32))
        dense = np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
        if len(dense) != encoded.n:
            dense = np.broadcast_to(dense, (encoded.n, dense.shape[1]))
        if self._encodings or self._of_tokens:
            encodings = [values[encoded.codes[:, column]] for column, values in self._encodings]
            encodings += [encoding(encoded) for encoding in self._of_tokens]
            dense = np.concatenate([dense, *encodings], axis=1)
        return SplitInputs(encoded, measured, np.ascontiguousarray(dense))

    def _measured(self, encoded: Encoded) -> np.ndarray:
        shared = self._transformed(encoded.shared_values, encoded.shared_columns)
        own = self._transformed(encoded.values, encoded.columns)
        measured = np.empty((1 if not own[0] else encoded.n, len(self.spec.measured)), np.float32)
        for targets, values in (shared, own):
            if targets:
                measured[:, targets] = values
        return measured

    def _transformed(self, values: np.ndarray, columns: tuple[int, ...]) -> tuple[list[int], np.ndarray]:
        """Transforms the columns that the split reads; returns their positions in the split, and the values."""
        found = self._transformers.get(columns)
        if found is None:
            if len(self._transformers) > _MAX_SHAPES:
                self._transformers.clear()
            sources = [source for source, column in enumerate(columns) if column in self._position]
            targets = [self._position[columns[source]] for source in sources]
            stats = [self.spec.stats[target] for target in targets]
            found = self._transformers[columns] = sources, targets, NumericTransformer(stats)
        sources, targets, transform = found
        return targets, transform(values[:, sources]) if targets else values[:, :0]

    def ids_of(self, codes: np.ndarray, vocabulary: str) -> np.ndarray:
        """Returns the embedding ids of codes of a vocabulary."""
        return self.ids[codes + self.spec.starts[vocabulary]]

    def starts_of(self, vocabularies: Sequence[str]) -> np.ndarray:
        """Returns the first entries of vocabularies in the ids."""
        return np.array([self.spec.starts[name] for name in vocabularies], np.int64)


class _TokenEncoding:
    """Encodings from counts of a token sequence, as `recsys.data.encodings.tokens` computes them.

    Args:
        spec: the encodings.
        values_CE: [C, E] float32 encodings of the tokens.
    """

    def __init__(self, spec: EncodingSpec, values_CE: np.ndarray) -> None:
        self._sequence, self._values_E1C = spec.feature, np.ascontiguousarray(values_CE.T)[:, None]
        self._mean, self._deviation = np.array(spec.mean), np.array(spec.deviation)

    def __call__(self, encoded: Encoded) -> np.ndarray:
        """Encodes [n] candidates as [n, D] float32."""
        tokens = encoded.tokens[self._sequence]
        part = np.zeros(len(tokens.offsets) - 1, np.int64)  # one for a sequence that all candidates share
        pooled = pool_tokens(self._values_E1C, part, tokens.codes, tokens.offsets)
        values = ((pooled - self._mean) / self._deviation).astype(np.float32)
        return np.broadcast_to(values, (encoded.n, values.shape[1]))


_MAX_SHAPES = 256
"""Divisions of the columns between user and candidates that are remembered."""
