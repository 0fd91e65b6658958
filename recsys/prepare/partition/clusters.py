"""Clusters: sets of training rows that stay together in folds and in the tuning part."""

from dataclasses import dataclass

import numpy as np

from recsys.data.groups import NO_USER
from recsys.system.hashing import mix

_NO_USER_SEED = 3  # a random stream: the hash of a row is no hash of a user


@dataclass(frozen=True)
class Clusters:
    """Sets of training rows: the rows of a user, the copies of a row, or single rows."""

    hashes: np.ndarray
    """[n_clusters] uint64."""
    of_row: np.ndarray | None = None
    """[n] positions of the rows' clusters; None if every row is a cluster of its own."""

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Returns the [n] values of the rows' clusters, given [n_clusters] values."""
        return values if self.of_row is None else values[self.of_row]

    def has_any(self, is_selected: np.ndarray) -> np.ndarray:
        """Returns [n_clusters] bool: whether some of a cluster's rows are selected by [n] bool."""
        if self.of_row is None:
            return is_selected
        return np.bincount(self.of_row[is_selected], minlength=len(self.hashes)) > 0


def clusters_of_copies(hashes: np.ndarray, content: np.ndarray | None) -> Clusters:
    """Returns the clusters of rows with equal content; each has the hash of its first row.

    The label is no part of the content: a fold with all the positive copies of a row, and none of its negative ones,
    would be the opposite of what the other folds teach.

    Args:
        hashes: [n] uint64 of the row ids.
        content: [n] uint64 hashes of features and days; None if no row is taken for a copy.
    """
    if content is None:
        return Clusters(hashes)
    _, first_rows, of_row = np.unique(content, return_index=True, return_inverse=True)
    return Clusters(hashes[first_rows], of_row)


def clusters_of_users(
    user: np.ndarray, user_hashes: np.ndarray, hashes: np.ndarray, content: np.ndarray | None
) -> Clusters:
    """Returns the clusters of rows of one user; rows without a user are clustered by content.

    Args:
        user: [n] int32, NO_USER for null.
        user_hashes: [n_users] uint64, which may have users without a row.
        hashes: [n] uint64 of the row ids.
        content: as in `clusters_of_copies`.
    """
    is_null = user == NO_USER
    has_rows = np.bincount(user[~is_null], minlength=len(user_hashes)) > 0
    of_row = np.append(np.cumsum(has_rows) - 1, 0)[user]  # the last entry, of null users, is replaced below
    alone = clusters_of_copies(hashes[is_null], None if content is None else content[is_null])
    n_users = int(has_rows.sum())
    of_row[is_null] = n_users + alone.spread(np.arange(len(alone.hashes)))
    return Clusters(np.concatenate([user_hashes[has_rows], mix(alone.hashes, _NO_USER_SEED)]), of_row)
