"""Requests from prepared rows: what a client can send to a server of the bundle."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from recsys.data.dataset import PreparedDataset
from recsys.data.vocabulary import MISSING_ID, N_RESERVED, RARE_ID
from recsys.schema.kinds import Kind

N_CANDIDATES = 3


def example_request(dataset: PreparedDataset, columns: Sequence[str]) -> dict[str, Any]:
    """The example of a bundle, from the first rows of the data."""
    return request_of(dataset, columns, dataset.split(dataset.split_names[0]).fit_rows(np.arange(N_CANDIDATES)))


def request_of(dataset: PreparedDataset, names: Sequence[str], rows: np.ndarray) -> dict[str, Any]:
    """Returns the user of the first row, and a candidate of each, with the columns that the models read.

    The columns of the item tower and the target item are those of the candidates; without them, the first categorical
    column is. A value below the frequency threshold is replaced by the most frequent one.

    Args:
        dataset: the data set.
        names: the columns that the models read.
        rows: [n] numbers of prepared rows.
    """
    schema, kinds = dataset.manifest.schema_, dataset.manifest.kinds
    codes, measured = dataset.store.read_sparse(rows), dataset.store.read_measured(rows)
    columns: dict[str, list[Any]] = {}
    for name in names:
        columns[name] = [None] * len(rows)
        if name in schema.measured:
            index, offset = schema.measured.index(name), schema.offsets.get(name, 0.0)
            columns[name] = [_number(float(value) + offset, kinds.get(name)) for value in measured[:, index]]
        elif name in schema.categorical:
            values = dataset.vocabularies[name].values
            of_rows = codes[:, schema.categorical.index(name)]
            columns[name] = [_value(int(code), values, kinds.get(name)) for code in of_rows]
    for sequence in schema.token_sequences:
        if sequence.column in columns:
            values = dataset.vocabularies[sequence.vocabulary].values
            tokens, lengths = dataset.store.read_tokens(sequence.name, rows)
            ends = np.cumsum(lengths)
            texts = [_texts(tokens[end - length : end], values) for end, length in zip(ends, lengths, strict=True)]
            columns[sequence.column] = [
                text if sequence.delimiter is None else sequence.delimiter.join(text) for text in texts
            ]
    own = {*schema.towers.get("item", ()), *([schema.target_item] if schema.target_item else [])} & columns.keys()
    if not own:
        own = set(list(columns)[:1])
    return {
        "user": {name: values[0] for name, values in columns.items() if name not in own},
        "candidates": [{name: columns[name][row] for name in names if name in own} for row in range(len(rows))],
    }


def _number(value: float, kind: Kind | None) -> Any:
    if not np.isfinite(value):
        return None
    return bool(value) if kind == "boolean" else value


def _value(code: int, values: pa.Array, kind: Kind | None) -> Any:
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
