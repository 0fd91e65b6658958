"""The map step of preparation: raw rows to a digest.

A digest is an Arrow record batch. It holds each categorical column and token sequence as codes into the distinct values
of the batch, the raw numbers, and the lengths of sequences. Counting, measuring and encoding are functions of digests,
so that raw files are read once, by any number of threads or machines.
"""

import numpy as np
import pyarrow as pa

from recsys.data import layout
from recsys.data.vocabulary import Codes
from recsys.prepare.content import RowHasher, hash_lists, hash_tokens
from recsys.prepare.writers import fixed_lists
from recsys.raw.derive import derive_number, end_of_list
from recsys.raw.numbers import read_numbers
from recsys.raw.sequences.delimited import ParsedSequences, read_delimited
from recsys.raw.sequences.statistics import list_statistics
from recsys.raw.source import full_length_column
from recsys.raw.tokens import encode_values, parse_list
from recsys.raw.vectors.reading import read_vectors
from recsys.schema.features import TokenFeature
from recsys.schema.kinds import AS_WRITTEN
from recsys.schema.resolved import Schema

_TOKENS, _CONTENT = "tokens", "content"


def columns_to_read(schema: Schema) -> list[str]:
    """Returns the columns that a digest needs: raw columns, crosses, and logs with their lengths."""
    lengths = [full_length_column(name) for name in schema.logs]
    return list(dict.fromkeys([*schema.source_columns, *schema.crosses, *schema.logs, *lengths]))


def digest_rows(table: pa.Table, schema: Schema) -> pa.RecordBatch:
    """Computes the digest of [n] raw rows with the columns of `columns_to_read`."""
    ends = {name for feature in schema.statistics for name in feature.ends}
    single = {
        name: encode_values(table[name], f"column {name!r}", schema.form_of(name))
        for name in schema.categorical
        if name not in ends
    }
    values = np.zeros((table.num_rows, len(schema.measured)), np.float32)
    column_index = {column: index for index, column in enumerate(schema.measured)}
    content = RowHasher(table.num_rows)
    by_column = {}
    for column in schema.numbers:
        numbers = read_numbers(table[column], schema.offsets.get(column, 0.0))
        content.add_numbers(numbers)
        by_column[column] = numbers.astype(np.float32)
    by_column |= {name: derive_number(name, by_column, schema) for name in schema.formulas}
    for column, narrow in by_column.items():
        if column in column_index:
            values[:, column_index[column]] = narrow
    for vector in schema.vectors:
        first = column_index[vector.columns[0]]
        components = values[:, first : first + vector.size]
        components[:] = read_vectors(table[vector.name], vector.size)
        for component in components.T:
            content.add_numbers(component)
    tokens, lengths = {}, []
    statistics_features = {feature.sequence: feature for feature in schema.statistics}
    for sequence in schema.token_sequences:
        parsed = _read_sequence(table[sequence.column], sequence, schema, sequence.name in statistics_features)
        if sequence.delimiter is not None and schema.form_of(sequence.vocabulary) != AS_WRITTEN:
            # the text of equal tokens may differ: those that are kept have one form
            content.add_hashes(hash_tokens(parsed.kept, np.diff(parsed.offsets)))
            content.add_numbers(parsed.full_lengths)
        else:
            content.add_hashes(parsed.hashes)
        tokens[sequence.name] = parsed.offsets, parsed.kept
        length_name = full_length_column(sequence.name)  # a column of logs: their rows are truncated already
        lengths.append(
            table[length_name].to_numpy().astype(np.int32) if length_name in table.column_names else parsed.full_lengths
        )
        if (feature := statistics_features.get(sequence.name)) is not None:
            values[:, [column_index[name] for name in feature.numeric]] = parsed.statistics
            single |= {name: parsed.first if end == "first" else parsed.last for name, end in feature.ends.items()}
    for name in [name for name in schema.categorical if name not in schema.derived_categorical]:
        content.add_codes(single[name])

    arrays: dict[str, pa.Array] = {
        f"{layout.SPARSE}/{name}": to_dictionary(single[name]) for name in schema.categorical
    }
    for name, (offsets, codes) in tokens.items():
        arrays[f"{_TOKENS}/{name}"] = pa.LargeListArray.from_arrays(pa.array(offsets), to_dictionary(codes))
    if schema.measured:
        arrays[layout.DENSE] = fixed_lists(values, pa.float32())
    if lengths:
        arrays[layout.SEQUENCE_LENGTH] = fixed_lists(np.stack(lengths, axis=1), pa.int32())
    arrays[_CONTENT] = pa.array(content.hashes)
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def _read_sequence(
    column: pa.ChunkedArray, sequence: TokenFeature, schema: Schema, has_statistics: bool
) -> ParsedSequences:
    """Reads the kept tokens of a sequence; its first and last tokens and statistics too if `has_statistics`."""
    name = f"column {sequence.column!r}"
    # the items of a log have their text already
    form = AS_WRITTEN if sequence.name in schema.logs else schema.form_of(sequence.vocabulary)
    if sequence.delimiter is not None:
        return read_delimited(column, sequence.delimiter, sequence.max_length, sequence.keep, name, form)
    jagged = parse_list(column, sequence.max_length, sequence.keep)
    no_codes = Codes(np.zeros(0, np.int32), pa.array([], pa.string()))
    ends_form = schema.form_of(f"{sequence.name}_first") if has_statistics else form
    first = encode_values(end_of_list(column, "first"), name, ends_form) if has_statistics else no_codes
    last = encode_values(end_of_list(column, "last"), name, ends_form) if has_statistics else no_codes
    statistics = list_statistics(column) if has_statistics else np.zeros((len(column), 0), np.float32)
    kept = encode_values(jagged.tokens, name, form)
    return ParsedSequences(
        jagged.offsets.astype(np.int64), kept, first, last, jagged.full_lengths, statistics, hash_lists(column, form)
    )


def content_hashes(digest: pa.RecordBatch) -> np.ndarray:
    """Returns [n] uint64 hashes of the rows' features: equal for rows that are equal in all of them."""
    return np.asarray(digest.column(_CONTENT))


def categorical_codes(digest: pa.RecordBatch, name: str) -> Codes:
    """Returns the codes of a categorical column of a digest."""
    return codes_of(digest.column(f"{layout.SPARSE}/{name}"))


def token_codes(digest: pa.RecordBatch, name: str) -> tuple[np.ndarray, Codes]:
    """Returns the [n + 1] row offsets of a sequence, and the codes of its tokens."""
    column = digest.column(f"{_TOKENS}/{name}")
    return np.asarray(column.offsets), codes_of(column.values)


def measured(digest: pa.RecordBatch, schema: Schema) -> np.ndarray:
    """Returns the [n, n_measured] float32 raw numbers, NaN where null."""
    return _matrix(digest, layout.DENSE, len(schema.measured), np.float32)


def sequence_lengths(digest: pa.RecordBatch, schema: Schema) -> np.ndarray:
    """Returns the [n, n_token_sequences] int32 lengths before truncation."""
    return _matrix(digest, layout.SEQUENCE_LENGTH, len(schema.token_sequences), np.int32)


def _matrix(digest: pa.RecordBatch, name: str, width: int, dtype: type[np.generic]) -> np.ndarray:
    if width == 0:
        return np.zeros((digest.num_rows, 0), dtype)
    return np.asarray(digest.column(name).flatten()).reshape(-1, width)


def to_dictionary(codes: Codes) -> pa.DictionaryArray:
    """Converts codes to an Arrow dictionary array."""
    indices = pa.array(codes.codes, pa.int32(), mask=codes.codes < 0)
    return pa.DictionaryArray.from_arrays(indices, codes.values, safe=False)


def codes_of(column: pa.DictionaryArray) -> Codes:
    """Converts an array of `to_dictionary` back to codes."""
    return Codes(column.indices.fill_null(-1).to_numpy(zero_copy_only=False), column.dictionary)
