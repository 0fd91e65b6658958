"""Which rows to train causal towers on: each step of a history once, not once for every later row."""

import numpy as np

from recsys.data.rows import ListedRows, Rows
from recsys.data.split import Split
from recsys.errors import InputError


def windows(split: Split, rows: Rows, sequence: str) -> tuple[Rows, float]:
    """The rows whose histories, and own items at the end, hold every step of each key's log once.

    From the last row of a key backwards: a history of `max_length` steps and its own item take L + 1 rows together.

    Args:
        split: the rows' data set.
        rows: rows to cover.
        sequence: a sequence from the log, whose key is a categorical feature.

    Returns:
        The chosen rows, and the mean number of steps in one.

    Raises:
        InputError: when the sequence is not from the log, or its key is no feature with a value for each key.
    """
    schema, store = split.schema, split.store
    log = schema.logs.get(sequence)
    if log is None or log.key not in schema.categorical:
        raise InputError(
            f"model.pooling=causal needs {sequence!r} to be of kind log, and its key to be a categorical column: "
            "name it under schema.categorical"
        )
    length = next(s.max_length for s in schema.token_sequences if s.name == sequence)
    column = schema.categorical.index(log.key)
    numbers = rows.numbers()
    key = np.concatenate([store.read_sparse(block)[:, column] for block in rows.blocks()])
    if np.any(key < 2):
        raise InputError(
            f"model.pooling=causal must tell every {log.key} apart: set prepare.min_count_by_column.{log.key}=1"
        )
    position = np.concatenate([store.sequence_lengths(sequence, block) for block in rows.blocks()])
    last = np.zeros(int(key.max()) + 1, np.int64)
    np.maximum.at(last, key, position)
    chosen = (last[key] - position) % (length + 1) == 0
    return ListedRows(numbers[chosen]), float(np.minimum(position[chosen], length).mean() + 1)
