"""Plain baselines beside every ranking model: the constant click rate, and a logistic regression on hashed ids."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from recsys.data.rows import ListedRows, Permutation, PermutedSlice, Rows
from recsys.data.split import Split
from recsys.evaluation.metrics import Metrics, measure
from recsys.runs.predictions import Predictions, join
from recsys.system.progress import console

CONSTANT, LOGISTIC = "constant rate", "logistic regression"

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
        label, weight = split.store.labels(fit_rows), split.training_weights(fit_rows)
        self._model = LogisticRegression(C=_C, solver="liblinear").fit(self._inputs(fit_rows), label, weight)

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
        """[n] float64 logits of the click probability of rows, at the base rate of the full log."""
        blocks = [self._model.decision_function(self._inputs(block)) for block in rows.blocks()]
        model_logit = np.concatenate(blocks) if blocks else np.zeros(0)
        return model_logit + np.log(self._split.prior.sampling_rate)


def measure_baselines(splits: Sequence[Split], reported: Sequence[Predictions]) -> dict[str, Metrics]:
    """Metrics of the baselines on the reported rows, each fitted to the split that the model was fitted to.

    Args:
        splits: the splits of a run.
        reported: the run's predictions, one for each split; none of a run on all rows without labelled test rows.
    """
    if not reported:
        return {}
    natural: dict[str, list[np.ndarray]] = {CONSTANT: [], LOGISTIC: []}
    with console.status("fitting the baselines"):
        for split, predictions in zip(splits, reported, strict=True):
            constant = np.log(split.prior.sampling_rate / split.prior.pos_weight)
            natural[CONSTANT].append(np.full(len(predictions), constant))
            natural[LOGISTIC].append(LogisticBaseline(split).logits(ListedRows(predictions.row)))
    joined = join(reported)
    return {
        name: measure(joined.label, joined.logits.with_natural(np.concatenate(logits)), joined.weight, joined.user)
        for name, logits in natural.items()
    }
