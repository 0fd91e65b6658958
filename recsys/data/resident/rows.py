"""All rows of a store as tensors on a device: codes, raw numbers and tokens, as they are stored.

Nothing in them depends on a split: the fits of a run share them.

Shapes: n rows of the store, T tokens of all rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from recsys.data.encodings.tokens import encoded_sequences
from recsys.data.jagged import offsets_of
from recsys.data.layout import BLOCK_ROWS
from recsys.data.store import RowStore
from recsys.schema.encodings import TOKEN_POOLS
from recsys.system.threads import in_threads

_LOADED: "WeakKeyDictionary[RowStore, ResidentRows]" = WeakKeyDictionary()
"""The rows of each store, while it is in use: the next fit on the same data finds them in place."""


@dataclass(frozen=True, eq=False)
class ResidentRows:
    """The rows of a store on a device."""

    device: torch.device
    n_rows: int
    sparse: Tensor
    """[n, n_categorical] int32 codes."""
    measured: Tensor
    """[n, n_measured] float32 raw numbers, NaN for null."""
    label: Tensor
    """[n] float32: 0, 1 or NaN."""
    weight: Tensor | None
    """[n] float32; None if rows have no weights."""
    extra: Tensor | None
    """[n] float32 of the store's extra column."""
    group: Tensor | None
    """[n] uint8 groups of rows; None for rows that are not of a prepared data set."""
    past_counts: Tensor | None
    """[n, 2 features] int32, as in `layout.PAST_COUNTS_FILE`; None for rows without such counts."""
    tokens: dict[str, tuple[Tensor, Tensor]]
    """By token sequence: [n + 1] int64 offsets and [T] int32 codes."""

    @classmethod
    def of(cls, store: RowStore, device: torch.device) -> "ResidentRows":
        """Copies all rows to a device, or returns the copy that is there."""
        loaded = _LOADED.get(store)
        if loaded is None or loaded.device != device:
            loaded = _LOADED[store] = cls._load(store, device)
        return loaded

    @classmethod
    def _load(cls, store: RowStore, device: torch.device) -> "ResidentRows":
        n, schema = store.n_rows, store.schema
        sparse = torch.empty(n, len(schema.categorical), dtype=torch.int32, device=device)
        measured = torch.empty(n, len(schema.measured), device=device)
        label = torch.empty(n, device=device)
        weight = torch.empty(n, device=device) if store.weights(np.arange(0)) is not None else None
        has_groups = store.groups(np.arange(0)) is not None
        group = torch.empty(n, dtype=torch.uint8, device=device) if has_groups else None
        n_past = 2 * len(schema.past_encoded) if store.past_counts(np.arange(0)) is not None else 0
        past_counts = torch.empty(n, n_past, dtype=torch.int32, device=device) if n_past else None
        blocks = [np.arange(start, min(start + BLOCK_ROWS, n)) for start in range(0, n, BLOCK_ROWS)]

        def copy(rows: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
            place = slice(int(rows[0]), int(rows[-1]) + 1)
            if schema.categorical:
                sparse[place] = torch.from_numpy(store.read_sparse(rows)).to(device)
            if schema.measured:
                measured[place] = torch.from_numpy(store.read_measured(rows)).to(device)
            label[place] = torch.from_numpy(store.labels(rows)).to(device)
            if weight is not None:
                weight[place] = torch.from_numpy(store.weights(rows)).to(device)
            if group is not None:
                group[place] = torch.from_numpy(store.groups(rows)).to(device)
            if past_counts is not None:
                past_counts[place] = torch.from_numpy(store.past_counts(rows)).to(device)
            return {sequence.name: store.read_tokens(sequence.name, rows) for sequence in schema.token_sequences}

        tokens = [tokens_of_block for _, tokens_of_block in in_threads(copy, blocks)]
        jagged = {name: _to_device([block[name] for block in tokens], device) for name in (tokens[0] if tokens else ())}
        extra = None if store.extra is None else torch.from_numpy(np.asarray(store.extra.values, np.float32)).to(device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # other streams read them
        return cls(device, n, sparse, measured, label, weight, extra, group, past_counts, jagged)


def resident_bytes(store: RowStore) -> int:
    """Returns the bytes that the rows of a store take on a device."""
    schema, n = store.schema, store.n_rows
    n_values = len(schema.categorical) + len(schema.measured) + 2 * len(schema.past_encoded) + 3
    n_values += len(TOKEN_POOLS) * sum(len(schema.encodings[sequence.name]) for sequence in encoded_sequences(schema))
    fixed = n * (4 * n_values + 1)
    counted = np.linspace(0, n - 1, min(n, BLOCK_ROWS)).astype(np.int64)
    names = [sequence.name for sequence in schema.token_sequences]
    lengths = sum(float(store.read_tokens(name, counted)[1].mean()) for name in names) if n else 0.0
    return int(fixed + n * (8 * len(names) + 4 * lengths))


def fits_on(device: torch.device, store: RowStore) -> bool:
    """Whether the rows of a store fit on a GPU beside the model that is there; always false for a CPU.

    On a CPU the rows are in the page cache already, and a copy of them is no faster.
    """
    if device.type != "cuda":
        return False
    held = _LOADED.get(store)
    free, _ = torch.cuda.mem_get_info(device)
    return (held is not None and held.device == device) or resident_bytes(store) <= _SHARE_OF_FREE * free


_SHARE_OF_FREE = 0.6
"""The rest is for activations, gradients and optimizer states."""


def _to_device(blocks: Sequence[tuple[np.ndarray, np.ndarray]], device: torch.device) -> tuple[Tensor, Tensor]:
    codes, lengths = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return torch.from_numpy(offsets_of(lengths)).to(device), torch.from_numpy(codes).to(device)
