"""Tells later rows from earlier ones with a small classifier, cross-fitted: adversarial validation.

A ROC-AUC of .5 says that no column, and no combination of columns, differs. Rows are scored by a classifier that was
fitted to other rows. Sources: Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", ICLR 2017; the population
stability index of Siddiqi, "Credit risk scorecards", 2006.

Shapes: n rows of each sample, K folds of the rows.
"""

from collections.abc import Callable, Sequence

import lightgbm as lgb
import numpy as np
from sklearn.metrics import roc_auc_score

from ranking.insight.columns import ComparedColumn, compared_columns
from recsys.data.dataset import PreparedDataset
from recsys.data.rows import ListedRows, Rows
from recsys.errors import InputError
from recsys.evaluation.comparison import paired_bootstrap
from recsys.evaluation.drift import ColumnDrift, RowsDrift
from recsys.evaluation.logits import Logits
from recsys.system.threads import n_cores

_N_FOLDS = 3
_N_TREES = 60
_PARAMETERS = {
    "objective": "binary",
    "num_leaves": 8,
    "learning_rate": 0.1,
    "min_data_in_leaf": 50,
    "min_data_per_group": 50,
    "feature_fraction": 0.8,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
_N_PSI_CELLS = 30
MIN_ROWS = 200
"""The fewest rows of each of two sets that are compared."""


def measure_drift(
    dataset: PreparedDataset,
    earlier: tuple[str, Rows],
    later: tuple[str, Rows],
    names: Sequence[str],
    n_rows: int,
    seed: int,
    n_replicates: int = 200,
    on_replicate: Callable[[], None] = lambda: None,
) -> RowsDrift:
    """Compares equally many random rows of two sets.

    Args:
        dataset: the prepared data set.
        earlier: name and rows of the first set.
        later: name and rows of the second set.
        names: the features that may tell them apart.
        n_rows: the largest number of rows of each set.
        seed: seed of the samples, folds, classifier and bootstrap.
        n_replicates: number of bootstrap samples.
        on_replicate: called after each of them.

    Raises:
        InputError: if a set has fewer than `MIN_ROWS` rows.
    """
    n = min(n_rows, len(earlier[1]), len(later[1]))
    if n < MIN_ROWS:
        raise InputError(
            f"{earlier[0]} has {len(earlier[1]):,} rows and {later[0]} {len(later[1]):,}: "
            f"at least {MIN_ROWS} of each are needed to compare them"
        )
    rng = np.random.default_rng(seed)
    samples = np.concatenate([rows(np.sort(rng.choice(len(rows), n, replace=False))) for _, rows in (earlier, later)])
    is_later = np.repeat([0, 1], n)
    users = dataset.store.users(samples)
    fold = folds_of(users, is_later, rng)
    columns = list(compared_columns(dataset, names, earlier[1], samples))
    logit, gain = classify(columns, is_later, fold, seed)
    none = Logits.of_one_fit(np.zeros(2 * n), 0.0)
    compared = paired_bootstrap(
        is_later,
        none,
        Logits.of_one_fit(logit, 0.0),
        n_replicates,
        seed=seed,
        on_replicate=on_replicate,
        cluster=users,
        by="row" if users is None else "user",
    )
    change = compared.differences["roc_auc"]
    drifts = [column_drift(column, share, is_later, fold) for column, share in zip(columns, gain, strict=True)]
    return RowsDrift(
        earlier=earlier[0],
        later=later[0],
        n_rows=n,
        roc_auc=change.second,
        low=0.5 + change.low,
        high=0.5 + change.high,
        by=compared.by,
        columns=tuple(sorted(drifts, key=lambda one: -one.gain)),
    )


def folds_of(users: np.ndarray | None, is_later: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws the [2 n] folds of rows, each with about as many earlier and later rows.

    All rows of a user are in one fold: by their numbers, they would recognise each other.

    Args:
        users: [2 n] users of the rows, -1 for a row without one; None if users are unknown.
        is_later: [2 n] 0 / 1.
        rng: random numbers.
    """
    rows = np.arange(len(is_later))
    _, unit = np.unique(rows if users is None else np.where(users < 0, -1 - rows, users), return_inverse=True)
    share = np.bincount(unit, is_later) / np.bincount(unit)
    rank = np.empty(len(share), np.int64)
    rank[np.lexsort((rng.random(len(share)), share))] = np.arange(len(share))
    return (rank % _N_FOLDS)[unit]


def classify(
    columns: Sequence[ComparedColumn], is_later: np.ndarray, fold: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fits a classifier to all folds but one, for each fold.

    Args:
        columns: of the [2 n] rows.
        is_later: [2 n] 0 / 1.
        fold: [2 n] 0 .. K - 1.
        seed: seed of LightGBM.

    Returns:
        [2 n] logits by the classifier of the other folds, and the share of each column in the gain.
    """
    table = np.stack([column.values for column in columns], axis=1)
    categorical = [index for index, column in enumerate(columns) if column.kind == "categorical"]
    parameters = {**_PARAMETERS, "seed": seed, "num_threads": n_cores()}
    logit, gain = np.zeros(len(table)), np.zeros(len(columns))
    for number in range(int(fold.max()) + 1):
        fitted = fold != number
        data = lgb.Dataset(table[fitted], is_later[fitted], categorical_feature=categorical, params=parameters)
        booster = lgb.train(parameters, data, _N_TREES)
        # without the constant: folds differ in their share of later rows
        logit[~fitted] = np.asarray(booster.predict(table[~fitted], raw_score=True)) - _log_odds(is_later[fitted])
        gain += booster.feature_importance("gain")
    return logit, gain / gain.sum() if gain.any() else gain


def column_drift(column: ComparedColumn, gain: float, is_later: np.ndarray, fold: np.ndarray) -> ColumnDrift:
    """Measures one column by itself.

    Args:
        column: of the [2 n] rows.
        gain: its share of the classifier's gain.
        is_later: [2 n] 0 / 1.
        fold: [2 n] 0 .. K - 1.
    """
    n_folds, n_cells = int(fold.max()) + 1, int(column.cells.max()) + 1
    index = (fold * 2 + is_later) * n_cells + column.cells
    counts_K2C = np.bincount(index, minlength=2 * n_folds * n_cells).reshape(n_folds, 2, n_cells)
    others_K2C = counts_K2C.sum(axis=0) - counts_K2C  # without the row's own fold
    totals_K2 = others_K2C.sum(axis=2)
    score_KC = np.log((others_K2C[:, 1] + 0.5) / (others_K2C[:, 0] + 0.5))
    score_KC -= np.log(totals_K2[:, 1] / totals_K2[:, 0])[:, None]
    earlier, later = is_later == 0, is_later == 1
    missing = (float((column.cells[earlier] == 0).mean()), float((column.cells[later] == 0).mean()))
    rare = column.rare
    return ColumnDrift(
        name=column.name,
        kind=column.kind,
        gain=float(gain),
        roc_auc=float(roc_auc_score(is_later, score_KC[fold, column.cells])),
        psi=stability_index(*counts_K2C.sum(axis=0)),
        missing=missing,
        rare=None if rare is None else (float(rare[earlier].mean()), float(rare[later].mean())),
    )


def _log_odds(is_later: np.ndarray) -> float:
    n_later = int(is_later.sum())
    return float(np.log(n_later / (len(is_later) - n_later)))


def stability_index(earlier: np.ndarray, later: np.ndarray) -> float:
    """Population stability index, sum (q - p) ln (q / p), of two [C] counts; all but the largest cells are one cell."""
    largest = np.argsort(-(earlier + later), kind="stable")
    kept, pooled = largest[:_N_PSI_CELLS], largest[_N_PSI_CELLS:]
    p, q = (np.append(counts[kept], counts[pooled].sum()) + 0.5 for counts in (earlier, later))
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


def day_rows(dataset: PreparedDataset) -> dict[int, Rows]:
    """The training rows of each day, by the number of the day; empty without days."""
    rows, days = dataset.partition_rows("train"), []
    for block in rows.blocks():
        of_block = dataset.store.days(block)
        if of_block is None:
            return {}
        days.append(of_block)
    day, numbers = np.concatenate(days), rows.numbers()
    return {int(value): ListedRows(np.sort(numbers[day == value])) for value in np.unique(day) if value >= 0}
