"""The rows of a prepared data set, memory-mapped or held in memory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recsys.data.vocabulary import Codes
from recsys.errors import InputError


@dataclass(frozen=True)
class EncodedRows:
    """Rows as a prepared data set keeps them: nothing in them was fitted to a split."""

    sparse: np.ndarray
    """[n, n_categorical] int32 codes."""
    measured: np.ndarray
    """[n, n_measured] float32 raw numbers, NaN where null."""
    sequence_lengths: np.ndarray
    """[n, n_token_sequences] int32 lengths before any cut."""
    tokens: dict[str, tuple[np.ndarray, np.ndarray]]
    """By sequence: the [n + 1] offsets of its rows, and their int32 codes end to end."""
    items: Codes | None = None
    """[n] target items, whatever the frequency floor leaves of them; None where they are not asked for."""


@dataclass(frozen=True)
class ExtraColumn:
    """A dense column that no file of the data set has."""

    name: str
    values: np.ndarray
    """[n_rows] float32, NaN where there is none."""
    origin: str
    """The file it comes from, for errors."""


@dataclass(frozen=True)
class _HeldTokens:
    """A token sequence in memory, read as `ListColumn` reads a file."""

    offsets: np.ndarray
    codes: np.ndarray

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        starts, lengths = self.offsets[:-1][rows], np.diff(self.offsets)[rows]
        ends = np.cumsum(lengths)
        places = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
        return self.codes[places], lengths.astype(np.int32)


def _load_array(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is not a readable array ({error}): prepare the data again") from error
