"""What a bootstrap sample draws: clusters of rows, single positives, and cells of single negatives.

Every cluster gets a Poisson(1) number of draws, which all its rows share (Field and Welsh, "Bootstrapping clustered
data", JRSS B 2007: the cluster bootstrap; Hanley and MacGibbon, "Creating non-parametric bootstrap samples using
Poisson frequencies", 2006). Of fewer than 50 clusters, exactly as many are drawn as there are: a Poisson number of them
would vary too much. A cluster of one row is that row. Single negatives that share a rank bin in every model are
drawn together, because the sum of k draws is Poisson(k).

The weight w of a row multiplies its draws. Single negatives drawn together have the sum s Poisson(sum w / s) with
s = sum w^2 / sum w, which has the mean and the variance of the sum of their draws, sum w and sum w^2.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from recsys.evaluation.bootstrap.ranking import Ranking
from recsys.evaluation.logits import Logits
from recsys.evaluation.metrics import user_aucs

_MAX_CELLS = 2**62
_FEW_CLUSTERS = 50


class Resampling:
    """Models on the same rows, and the units that bootstrap samples of the rows draw.

    Args:
        is_positive: [n] bool.
        models: logits of the [n] rows, by model.
        weight: [n] float64 weights of the rows.
        cluster: [n] integers; -1 is a cluster of one row. None: all are.
        clusters_are_users: adds GAUC to the metrics, if a user has rows of both classes.
    """

    def __init__(
        self,
        is_positive: np.ndarray,
        models: Sequence[Logits],
        weight: np.ndarray,
        cluster: np.ndarray | None,
        clusters_are_users: bool = False,
    ) -> None:
        self.n_rows = len(is_positive)
        self._rankings = [Ranking(is_positive, logits) for logits in models]
        shared, self.n_shared = shared_clusters(cluster, self.n_rows)
        self.n_clusters = self.n_shared + int((shared < 0).sum())
        self._users = _UserAucs(is_positive, models, weight, shared) if clusters_are_users else None

        self._positive_weight = weight[is_positive]
        unit = shared[is_positive]
        self._n_ones = self.n_shared + int((unit < 0).sum())
        unit[unit < 0] = np.arange(self.n_shared, self._n_ones)
        self._unit_of_positive = unit

        negative_weight, unit = weight[~is_positive], shared[~is_positive]
        is_single = unit < 0
        cell = _joint_cells([ranking.bin_of_negative[is_single] for ranking in self._rankings])
        sums, squares = (np.bincount(cell, negative_weight[is_single] ** power) for power in (1, 2))
        scale = squares / np.where(sums > 0, sums, 1.0)
        self._cell_mean = sums / np.where(scale > 0, scale, 1.0)
        unit[is_single] = self.n_shared + cell
        drawn_once = negative_weight.copy()
        drawn_once[is_single] /= np.where(self._cell_mean > 0, self._cell_mean, 1.0)[cell]
        for ranking in self._rankings:
            ranking.set_units(unit, self.n_shared + len(self._cell_mean), drawn_once)

    @property
    def has_gauc(self) -> bool:
        """Whether GAUC is the last metric."""
        return self._users is not None and self._users.n_users > 0

    def replicates(self, n_replicates: int, seed: int) -> Iterator[np.ndarray]:
        """Yields [models, metrics in the order of COMPARED, and GAUC if there is one] of each bootstrap sample."""
        rng = np.random.default_rng(seed)
        for _ in range(n_replicates):
            ones = self._draws_of_ones(rng).astype(np.float64)
            cells = rng.poisson(self._cell_mean, len(self._cell_mean)).astype(np.float64)
            positive_weight = ones[self._unit_of_positive] * self._positive_weight
            unit_draw = np.concatenate([ones[: self.n_shared], cells])
            metrics_MC = np.array([ranking.metrics(positive_weight, unit_draw) for ranking in self._rankings])
            if self._users is not None and self.has_gauc:
                metrics_MC = np.column_stack([metrics_MC, self._users.gauc(ones)])
            yield metrics_MC

    def _draws_of_ones(self, rng: np.random.Generator) -> np.ndarray:
        """[n] draws of the clusters of several rows and of single positives."""
        if self.n_clusters == self.n_shared < _FEW_CLUSTERS:
            return rng.multinomial(self.n_shared, np.full(self.n_shared, 1 / self.n_shared))
        return rng.poisson(1.0, self._n_ones)


class _UserAucs:
    """The ROC-AUCs of users by model, for GAUC under draws of the users; see `Resampling` for the arguments.

    Args:
        user: [n] index of each row's user among the drawn units, -1 for a row that is drawn alone.
    """

    def __init__(self, is_positive: np.ndarray, models: Sequence[Logits], weight: np.ndarray, user: np.ndarray) -> None:
        found = [user_aucs(is_positive, logits.natural, user, weight) for logits in models]
        self._auc_MU = np.stack([auc for _, auc, _ in found])
        self._user_U, _, self._weight_U = found[0]

    @property
    def n_users(self) -> int:
        """U: users with rows of both classes."""
        return len(self._user_U)

    def gauc(self, draws: np.ndarray) -> np.ndarray:
        """[models] GAUC, given the draws of each unit; NaN if none of the users is drawn."""
        drawn_U = draws[self._user_U] * self._weight_U
        total = drawn_U.sum()
        return self._auc_MU @ drawn_U / total if total else np.full(len(self._auc_MU), np.nan)


def shared_clusters(cluster: np.ndarray | None, n_rows: int) -> tuple[np.ndarray, int]:
    """[n] dense indices of the clusters that have several rows, -1 for all other rows; and the number of them."""
    if cluster is None:
        return np.full(n_rows, -1, np.int64), 0
    values, index, n_rows_of = np.unique(cluster, return_inverse=True, return_counts=True)
    is_shared = (n_rows_of > 1) & (values >= 0)
    dense = np.where(is_shared, np.cumsum(is_shared) - 1, -1)
    return dense[index], int(is_shared.sum())


def _joint_cells(bins: Sequence[np.ndarray]) -> np.ndarray:
    """[n] dense indices of the distinct tuples of bins, in their order."""
    cell, n_cells = np.zeros(len(bins[0]), np.int64), 1
    for bin_of_negative in bins:
        n_bins = int(bin_of_negative.max(initial=0)) + 1
        if n_cells * n_bins > _MAX_CELLS:
            values, cell = np.unique(cell, return_inverse=True)
            n_cells = len(values)
        cell, n_cells = cell * n_bins + bin_of_negative, n_cells * n_bins
    return np.unique(cell, return_inverse=True)[1]
