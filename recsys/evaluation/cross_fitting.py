"""Cross-fitting: what is said of a row is fitted to other folds than its own."""

from collections.abc import Callable

import numpy as np

Score = Callable[[np.ndarray], np.ndarray]


def cross_fit(fold: np.ndarray, fit: Callable[[np.ndarray], Score]) -> np.ndarray:
    """[n] a number for each row, from a fit to the rows of the other folds.

    Args:
        fold: [n] names; two or more.
        fit: of the places of some rows, to a function that scores the places of others.
    """
    found = np.empty(len(fold))
    for name in np.unique(fold):
        is_mine = fold == name
        mine = np.flatnonzero(is_mine)
        found[mine] = fit(np.flatnonzero(~is_mine))(mine)
    return found
