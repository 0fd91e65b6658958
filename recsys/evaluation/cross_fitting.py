"""Cross-fitting: scores each row with a model that is fitted to the other folds."""

from collections.abc import Callable

import numpy as np

ScoreFunction = Callable[[np.ndarray], np.ndarray]


def can_cross_fit(label: np.ndarray, fold: np.ndarray, weight: np.ndarray | None = None) -> bool:
    """Whether there are rows, and the other folds of each fold together have rows of both classes.

    Args:
        label: [n] 0 / 1.
        fold: [n] fold names.
        weight: [n] weights of the rows, of which those of weight zero do not count; None if they have none.
    """
    if weight is not None:
        label, fold = label[weight > 0], fold[weight > 0]
    outside = [label[fold != name] for name in np.unique(fold)]
    return bool(outside) and all(len(np.unique(labels)) == 2 for labels in outside)


def cross_fit(fold: np.ndarray, fit: Callable[[np.ndarray], ScoreFunction]) -> np.ndarray:
    """Scores of [n] rows, or [n, m] ones; each row is scored by a fit to the rows of the other folds.

    Args:
        fold: [n] fold names, at least two different ones.
        fit: takes positions of the rows to fit to; returns a function that scores rows at other positions.
    """
    scores: np.ndarray | None = None
    for name in np.unique(fold):
        is_held_out = fold == name
        held_out = np.flatnonzero(is_held_out)
        of_fold = fit(np.flatnonzero(~is_held_out))(held_out)
        scores = np.empty((len(fold), *of_fold.shape[1:])) if scores is None else scores
        scores[held_out] = of_fold
    assert scores is not None, "rows have at least two folds"
    return scores
