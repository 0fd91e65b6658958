"""Selects the training rows of causal towers, so that each step of a history is trained on once."""

import numpy as np

from recsys.data.rows import ListedRows, Rows
from recsys.data.split import Split
from recsys.data.vocabulary import N_RESERVED
from recsys.errors import InputError


def windows(split: Split, rows: Rows, sequence: str) -> tuple[Rows, float]:
    """Selects rows whose histories and items together contain each step of each key's log once.

    A row covers L + 1 rows of its key: a history of at most L = `max_length` steps, and its item. So the selection
    starts at the last row of a key and goes back in steps of L + 1.

    Args:
        split: the data set of the rows.
        rows: rows to cover.
        sequence: a sequence of kind log; its key is a categorical feature.

    Returns:
        The selected rows, and their mean number of steps.

    Raises:
        InputError: when the sequence is not of kind log, or its key is not a categorical feature with an id per value.
    """
    schema, store = split.schema, split.store
    log = schema.logs.get(sequence)
    if log is None or log.key not in schema.categorical:
        raise InputError(
            f"model.pooling=causal needs {sequence!r} to be of kind log, and its key to be a categorical column: "
            "add the key to schema.categorical"
        )
    length = next(s.max_length for s in schema.token_sequences if s.name == sequence)
    column = schema.categorical.index(log.key)
    numbers = rows.numbers()
    key = np.concatenate([store.read_sparse(block)[:, column] for block in rows.blocks()])
    if np.any(key < N_RESERVED):
        raise InputError(
            f"model.pooling=causal needs an id for every {log.key}: set prepare.min_count_by_column.{log.key}=1"
        )
    position = np.concatenate([store.sequence_lengths(sequence, block) for block in rows.blocks()])
    last = np.zeros(int(key.max()) + 1, np.int64)
    np.maximum.at(last, key, position)
    is_selected = (last[key] - position) % (length + 1) == 0
    return ListedRows(numbers[is_selected]), float(np.minimum(position[is_selected], length).mean() + 1)
