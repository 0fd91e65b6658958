"""What every library of trees does: trees that grow, and trees that score."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from ranking.trees.rows import READ_ROWS, TableSequence
from recsys.data.rows import Rows
from recsys.data.split import Split
from recsys.system.progress import progress_line

OnRound = Callable[[int, float, np.ndarray | None], bool]
"""Called after each round of trees with their number, the training loss and the [n] logits of the monitored rows, None
without any; returns whether to grow more."""


class Forest(Protocol):
    """Trees that were grown."""

    @property
    def n_trees(self) -> int:
        """Number of trees."""

    def logit(self, table: np.ndarray) -> np.ndarray:
        """Returns the [n] logits of rows with the columns of `TableSequence`."""

    def save_first(self, n_trees: int, path: Path) -> None:
        """Writes the first trees."""


class Growth(Protocol):
    """Trees that grow on the rows of a fit."""

    def grow(self, round_size: int, on_round: OnRound) -> None:
        """Grows trees in rounds, up to the number of the settings or until `on_round` returns False."""

    def remember(self) -> None:
        """Remembers the trees of the present round; called inside `on_round`."""

    def save(self, path: Path) -> None:
        """Writes the remembered trees."""

    def save_all(self, path: Path) -> bool:
        """Writes all trees, if the first of them are those of an earlier round; returns whether they are."""


def grow_in_rounds(
    n_trees: int,
    round_size: int,
    name: str,
    grow_tree: Callable[[int], object],
    measure: Callable[[], tuple[float, np.ndarray | None]],
    on_round: OnRound,
) -> None:
    """Grows trees one by one, with a progress line for each round.

    Args:
        n_trees: the number of trees.
        round_size: trees of a round.
        name: shown on the progress line.
        grow_tree: grows the tree of this number, from 0.
        measure: the training loss and the logits of the monitored rows after a round.
        on_round: see `OnRound`.
    """
    for first in range(0, n_trees, round_size):
        last = min(first + round_size, n_trees)
        title = f"{name} trees {first + 1} to {last} of {n_trees}"
        with progress_line(title, last - first, unit="trees") as line:
            for number in range(first, last):
                grow_tree(number)
                line.advance(1)
        if not on_round(last, *measure()):
            return


def predict_trees(forest: Forest, split: Split, rows: Rows, name: str = "scoring") -> np.ndarray:
    """Returns [n] float32 logits of rows; an empty name shows no progress."""
    table, logits = TableSequence(split, rows), np.empty(len(rows), np.float32)
    with progress_line(name, len(rows), is_shown=bool(name)) as line:
        for start in range(0, len(rows), READ_ROWS):
            block = table[start : start + READ_ROWS]
            with np.errstate(over="ignore"):  # a logit that is infinite in float32 is reported by the caller
                logits[start : start + len(block)] = forest.logit(block)
            line.advance(len(block))
    return logits
