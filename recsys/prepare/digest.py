"""The map of preparation: raw rows to a digest, which is all that is read of them.

A digest is an Arrow record batch: each categorical column and token sequence as codes into the batch's own distinct
values, the raw numbers, and the lengths of sequences. What follows (counting, measuring, encoding) are plain functions
of digests, so that raw files are read once, by any number of threads or machines.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data import layout
from recsys.data.transforms import MAX_NUMBER
from recsys.data.vocabulary import Codes
from recsys.prepare.writers import fixed_lists
from recsys.raw.delimited import WholeSequences, read_delimited
from recsys.raw.derive import end_of_list
from recsys.raw.source import length_column
from recsys.raw.statistics import list_statistics
from recsys.raw.tokens import as_array, encode_values, parse_list
from recsys.schema.resolved import Schema, TokenFeature

_TOKENS = "tokens"


def columns_to_read(schema: Schema) -> list[str]:
    """What a digest is made of: raw columns, and crosses and sequences that are made of them."""
    lengths = [length_column(name) for name in schema.logs]
    return list(dict.fromkeys([*schema.source_columns, *schema.crosses, *schema.logs, *lengths]))


def digest_rows(table: pa.Table, schema: Schema) -> pa.RecordBatch:
    """The digest of [n] raw rows that hold `columns_to_read`."""
    ends = {name for feature in schema.statistics for name in feature.ends}
    single = {name: encode_values(table[name], f"column {name!r}") for name in schema.categorical if name not in ends}
    values = np.zeros((table.num_rows, len(schema.measured)), np.float32)
    place = {column: index for index, column in enumerate(schema.measured)}
    for column in place.keys() - set(schema.derived_numeric):
        values[:, place[column]] = _numbers(table[column])
    tokens, lengths = {}, []
    described = {feature.sequence: feature for feature in schema.statistics}
    for sequence in schema.token_sequences:
        found = _read_sequence(table[sequence.column], sequence, sequence.name in described)
        tokens[sequence.name] = found.offsets, found.kept
        full = length_column(sequence.name)  # of a log, which was cut before
        lengths.append(table[full].to_numpy().astype(np.int32) if full in table.column_names else found.full_lengths)
        if (feature := described.get(sequence.name)) is not None:
            values[:, [place[name] for name in feature.numeric]] = found.statistics
            single |= {name: found.first if which == "first" else found.last for name, which in feature.ends.items()}

    arrays: dict[str, pa.Array] = {
        f"{layout.SPARSE}/{name}": dictionary_of(single[name]) for name in schema.categorical
    }
    for name, (offsets, codes) in tokens.items():
        arrays[f"{_TOKENS}/{name}"] = pa.LargeListArray.from_arrays(pa.array(offsets), dictionary_of(codes))
    if schema.measured:
        arrays[layout.DENSE] = fixed_lists(values, pa.float32())
    if lengths:
        arrays[layout.SEQUENCE_LENGTH] = fixed_lists(np.stack(lengths, axis=1), pa.int32())
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def _read_sequence(column: pa.ChunkedArray, sequence: TokenFeature, is_described: bool) -> WholeSequences:
    """A sequence's kept tokens, and, where it is described, the rest."""
    if sequence.delimiter is not None:
        return read_delimited(column, sequence.delimiter, sequence.max_length, sequence.keep)
    name = f"column {sequence.column!r}"
    jagged = parse_list(column, sequence.max_length, sequence.keep)
    nothing = Codes(np.zeros(0, np.int32), pa.array([], pa.string()))
    first = encode_values(end_of_list(column, "first"), name) if is_described else nothing
    last = encode_values(end_of_list(column, "last"), name) if is_described else nothing
    statistics = list_statistics(column) if is_described else np.zeros((len(column), 0), np.float32)
    offsets = jagged.offsets.astype(np.int64)
    return WholeSequences(offsets, encode_values(jagged.tokens, name), first, last, jagged.full_lengths, statistics)


def categorical_codes(digest: pa.RecordBatch, name: str) -> Codes:
    """A categorical column of a digest."""
    return codes_of(digest.column(f"{layout.SPARSE}/{name}"))


def token_codes(digest: pa.RecordBatch, name: str) -> tuple[np.ndarray, Codes]:
    """The [n + 1] offsets of a sequence's rows, and their tokens."""
    column = digest.column(f"{_TOKENS}/{name}")
    return np.asarray(column.offsets), codes_of(column.values)


def measured(digest: pa.RecordBatch, schema: Schema) -> np.ndarray:
    """[n, n_measured] float32 raw numbers, NaN where null."""
    return _matrix(digest, layout.DENSE, len(schema.measured), np.float32)


def sequence_lengths(digest: pa.RecordBatch, schema: Schema) -> np.ndarray:
    """[n, n_token_sequences] int32 lengths before any cut."""
    return _matrix(digest, layout.SEQUENCE_LENGTH, len(schema.token_sequences), np.int32)


def _matrix(digest: pa.RecordBatch, name: str, width: int, dtype: type[np.generic]) -> np.ndarray:
    if width == 0:
        return np.zeros((digest.num_rows, 0), dtype)
    return np.asarray(digest.column(name).flatten()).reshape(-1, width)


def dictionary_of(codes: Codes) -> pa.DictionaryArray:
    """Codes as an Arrow array."""
    indices = pa.array(codes.codes, pa.int32(), mask=codes.codes < 0)
    return pa.DictionaryArray.from_arrays(indices, codes.values, safe=False)


def codes_of(column: pa.DictionaryArray) -> Codes:
    """The codes that `dictionary_of` made an array of."""
    return Codes(column.indices.fill_null(-1).to_numpy(zero_copy_only=False), column.dictionary)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """[n] float64 numbers, NaN where null; those beyond `MAX_NUMBER` are infinite."""
    array = as_array(column)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    numbers = pc.cast(array, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if np.any(np.abs(numbers) > MAX_NUMBER):
        numbers = np.where(np.abs(numbers) > MAX_NUMBER, np.copysign(np.inf, numbers), numbers)
    return numbers
