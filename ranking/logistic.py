"""Logistic regression on hashed ids and numbers: the plain baseline beside every ranking model."""

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from recsys.data.rows import Permutation, PermutedSlice, Rows
from recsys.data.split import Split
from recsys.evaluation.logits import logit_of

MAX_ROWS = 100_000
"""Fitting rows, chosen at random, which take seconds."""
_N_HASHES = 2**18
_C = 0.1
"""Inverse strength of the L2 penalty: scikit-learn's 1 overfits rare ids."""


class LogisticBaseline:
    """scikit-learn's logistic regression on the inputs of LightGBM: ids as one-hot columns, and numbers.

    Ids share columns if there are more than 2^18 of them. Source: Weinberger et al., "Feature hashing for large scale
    multitask learning", ICML 2009.

    Args:
        split: encodes rows and defines the fitting rows.
        seed: chooses the fitting rows if there are more than `MAX_ROWS`.
    """

    def __init__(self, split: Split, seed: int = 0) -> None:
        self._split = split
        n_ids = [split.schema.num_embeddings[name] for name in split.schema.categorical]
        self._start = np.cumsum([0, *n_ids])[:-1]
        rows = split.fit_rows
        fit_rows = PermutedSlice(rows, Permutation(len(rows), seed), 0, min(MAX_ROWS, len(rows))).numbers()
        label = split.store.labels(fit_rows)
        self._model = LogisticRegression(C=_C, solver="liblinear").fit(self._inputs(fit_rows), label)

    def _inputs(self, rows: np.ndarray) -> sparse.csr_matrix:
        """[n, 2^18 + n_numbers] inputs of [n] row numbers; a null number counts as the mean."""
        ids, numbers = self._split.table(rows)
        columns = (ids + self._start) % _N_HASHES
        starts = np.arange(len(rows) + 1) * columns.shape[1]
        one_hot = sparse.csr_matrix(
            (np.ones(columns.size, np.float32), columns.ravel(), starts), (len(rows), _N_HASHES)
        )
        return sparse.hstack([one_hot, np.nan_to_num(numbers, nan=0.0)], format="csr")

    def logits(self, rows: Rows) -> np.ndarray:
        """[n] float64 logits of the click probability of rows."""
        blocks = [self._model.decision_function(self._inputs(block)) for block in rows.blocks()]
        return np.concatenate(blocks) if blocks else np.zeros(0)


def constant_logits(split: Split, n: int) -> np.ndarray:
    """[n] float64 logits of the click rate of the fitting rows."""
    rate = split.prior.n_positive / (split.prior.n_positive + split.prior.n_negative)
    return logit_of(np.full(n, rate))
