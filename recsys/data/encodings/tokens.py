"""Encodings of the tokens of a sequence, for one split: of each token, and from those the columns of a row.

A token has the rows that contain it and their clicks, a row once however often it repeats the token; its encoding is
that of a categorical value with these counts. The columns of a row are the mean and the maximum over its distinct
tokens, and the encodings of its last tokens. An absent token has the encoding of a value without a row, which is 0.

Shapes: C codes of the tokens, K folds, E encodings of a token, B rows, T tokens of all rows, D = 5 E columns.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from recsys.data.encodings.table import MIN_DEVIATION, EncodingTable
from recsys.data.jagged import offsets_of
from recsys.data.layout import BLOCK_ROWS
from recsys.data.store import RowStore
from recsys.schema.encodings import TOKEN_POOLS
from recsys.schema.features import TokenFeature
from recsys.schema.resolved import Schema

_N_LAST = len(TOKEN_POOLS) - 2


def encoded_sequences(schema: Schema) -> tuple[TokenFeature, ...]:
    """The token sequences with encodings, in the order of the schema's encodings."""
    by_name = {sequence.name: sequence for sequence in schema.token_sequences}
    return tuple(by_name[name] for name in schema.encodings if name in by_name)


def pool_tokens(values: np.ndarray, part: np.ndarray, codes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Computes the columns of rows, before they are standardized.

    Args:
        values: [E, K + 1, C] float32 encodings of the tokens.
        part: [B] int64 entries of the second axis.
        codes: [T] int32 tokens of the rows, end to end.
        offsets: [B + 1] int64 offsets of the rows in the codes.

    Returns:
        [B, D] float64.
    """
    pooled = np.zeros((len(part), len(values), len(TOKEN_POOLS)))
    _pool(values, part, codes, offsets, _N_LAST, pooled)
    return pooled.reshape(len(part), -1)


@dataclass(frozen=True, eq=False)
class TokenEncoding:
    """Standardized encodings of one token sequence, for one split."""

    table: EncodingTable
    """Encodings of each token, not standardized."""
    mean: np.ndarray
    """[D] float64, over fitting rows."""
    deviation: np.ndarray
    """[D] float64."""

    @classmethod
    def fit(cls, table: EncodingTable, store: RowStore, sequence: str, fit_rows: np.ndarray) -> "TokenEncoding":
        """Computes mean and deviation of the columns.

        Args:
            table: see `TokenEncoding`.
            store: all rows.
            sequence: name of the sequence.
            fit_rows: the fitting rows to compute them over.
        """
        n, n_columns = max(len(fit_rows), 1), len(table.kinds) * len(TOKEN_POOLS)
        plain = cls(table, np.zeros(n_columns), np.ones(n_columns))
        blocks = [fit_rows[start : start + BLOCK_ROWS] for start in range(0, len(fit_rows), BLOCK_ROWS)]
        mean = sum((plain.of_rows(store, sequence, rows).sum(axis=0, dtype=np.float64) for rows in blocks), plain.mean)
        plain = cls(table, mean / n, plain.deviation)
        squares = [np.square(plain.of_rows(store, sequence, rows), dtype=np.float64).sum(axis=0) for rows in blocks]
        return cls(table, mean / n, np.maximum(np.sqrt(sum(squares, np.zeros(n_columns)) / n), MIN_DEVIATION))

    def of_rows(self, store: RowStore, sequence: str, rows: np.ndarray) -> np.ndarray:
        """Encodes [B] rows of a store as [B, D] float32."""
        codes, lengths = store.read_encoded_tokens(sequence, rows)
        return self(codes, lengths, store.groups(rows))

    def __call__(self, codes: np.ndarray, lengths: np.ndarray, group: np.ndarray | None) -> np.ndarray:
        """Encodes rows.

        Args:
            codes: [T] int32 tokens of the rows, end to end.
            lengths: [B] tokens of each row.
            group: [B] groups of the rows; None for rows that are in no group, such as those to submit.

        Returns:
            [B, D] float32.
        """
        part = np.broadcast_to(np.asarray(self.table.part(group), np.int64), len(lengths))
        pooled = pool_tokens(self.table.values, np.ascontiguousarray(part), codes, offsets_of(lengths))
        return ((pooled - self.mean) / self.deviation).astype(np.float32)


@njit(nogil=True, cache=True)
def _pool(values, part, codes, offsets, n_last, pooled):  # type: ignore[no-untyped-def]
    """Fills the [B, E, 2 + n_last] columns of rows, which are 0 before."""
    for row in range(len(part)):
        start, stop = offsets[row], offsets[row + 1]
        if start == stop:
            continue
        distinct = np.unique(codes[start:stop])
        for index in range(len(values)):
            of_code = values[index, part[row]]
            total, largest = 0.0, -np.inf
            for code in distinct:
                total += of_code[code]
                largest = max(largest, of_code[code])
            pooled[row, index, 0] = total / len(distinct)
            pooled[row, index, 1] = largest
            for back in range(min(n_last, stop - start)):
                pooled[row, index, 2 + back] = of_code[codes[stop - 1 - back]]
