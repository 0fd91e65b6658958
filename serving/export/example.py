"""Requests from prepared rows: what a client can send to a server of the bundle."""

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa

from recsys.data.dataset import PreparedDataset
from recsys.data.vocabulary import MISSING_ID, N_RESERVED, RARE_ID
from recsys.schema.kinds import Kind
from serving.export.graphs.shared import item_columns

N_CANDIDATES = 3
FREQUENT: Final = "frequent"
UNSEEN: Final = "unseen"


def example_request(dataset: PreparedDataset, columns: Sequence[str]) -> dict[str, Any]:
    """The example of a bundle, from the first rows of the data."""
    return request_of(dataset, columns, dataset.split(dataset.split_names[0]).fit_rows(np.arange(N_CANDIDATES)))


def request_of(dataset: PreparedDataset, names: Sequence[str], rows: np.ndarray) -> dict[str, Any]:
    """Returns the user of the first row, and a candidate of each, with the columns that the models read.

    The columns of the item tower and the target item are those of the candidates; without them, all columns are. A
    value below the frequency threshold is replaced by the most frequent one.

    Args:
        dataset: the data set.
        names: the columns that the models read.
        rows: [n] numbers of prepared rows.
    """
    schema, columns = dataset.manifest.schema_, raw_columns(dataset, names, rows)
    own = item_columns(schema) & columns.keys() or set(columns)
    return {
        "user": {name: values[0] for name, values in columns.items() if name not in own},
        "candidates": [{name: columns[name][row] for name in names if name in own} for row in range(len(rows))],
    }


def raw_columns(
    dataset: PreparedDataset, names: Sequence[str], rows: np.ndarray, rare: Literal["frequent", "unseen"] = FREQUENT
) -> dict[str, list[Any]]:
    """Returns columns of prepared rows as they were in the files, as far as the prepared data tells.

    Args:
        dataset: the data set.
        names: columns of its files.
        rows: [n] numbers of prepared rows.
        rare: what stands for a value below the frequency threshold: the most frequent value, or one that the training
            files lack, which is encoded like it.
    """
    schema, kinds = dataset.manifest.schema_, dataset.manifest.kinds
    encoded = dataset.store.encoded(rows)
    columns: dict[str, list[Any]] = {}
    for name in names:
        columns[name] = [None] * len(rows)
        if name in schema.measured:
            index, offset = schema.measured.index(name), schema.offsets.get(name, 0.0)
            columns[name] = [_number(float(value) + offset, kinds.get(name)) for value in encoded.measured[:, index]]
        elif name in schema.categorical:
            values = dataset.vocabularies[name].values
            of_rows = encoded.sparse[:, schema.categorical.index(name)]
            stand_in = _unseen(values, kinds.get(name)) if rare == UNSEEN else None
            columns[name] = [_value(int(code), values, kinds.get(name), stand_in) for code in of_rows]
    for vector in schema.vectors:
        if vector.name in columns:
            first = schema.measured.index(vector.columns[0])
            numbers = encoded.measured[:, first : first + vector.size].astype(float)
            columns[vector.name] = [None if np.isnan(row).any() else row.tolist() for row in numbers]
    for sequence in schema.token_sequences:
        if sequence.column in columns:
            values = dataset.vocabularies[sequence.vocabulary].values
            tokens, lengths = dataset.store.read_tokens(sequence.name, rows)
            ends = np.cumsum(lengths)
            texts = [_texts(tokens[end - length : end], values) for end, length in zip(ends, lengths, strict=True)]
            columns[sequence.column] = [
                text if sequence.delimiter is None else sequence.delimiter.join(text) for text in texts
            ]
    return columns


def _number(value: float, kind: Kind | None) -> Any:
    if not np.isfinite(value):
        return None
    return bool(value) if kind == "boolean" else value


def _unseen(values: pa.Array, kind: Kind | None) -> Any:
    """A value of the kind that is not among the values; None for kinds without another one."""
    if kind == "boolean":
        return None
    if kind == "number":
        return int(max((float(text) for text in values.to_pylist()), default=0.0)) + 1
    taken, text = set(values.to_pylist()), "rare"
    while text in taken:
        text += "_"
    return text


def _value(code: int, values: pa.Array, kind: Kind | None, rare: Any = None) -> Any:
    if code == RARE_ID and rare is not None:
        return rare
    if code == MISSING_ID or len(values) == 0:
        return None
    text = values[0 if code == RARE_ID else code - N_RESERVED].as_py()
    if kind == "boolean":
        return text == "true"
    if kind != "number":
        return text
    number = float(text)
    return int(text) if text.lstrip("-").isdigit() else number


def _texts(codes: np.ndarray, values: pa.Array) -> list[str]:
    """The texts of tokens, without those that have none."""
    return [values[int(code) - N_RESERVED].as_py() for code in codes if code >= N_RESERVED]
