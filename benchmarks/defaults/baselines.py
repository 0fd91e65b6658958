"""Plain baselines on the raw columns: logistic regression on one-hot values, and LightGBM with its own defaults.

Shapes: n rows of a table.
"""

from collections.abc import Callable
from fnmatch import fnmatchcase

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse
from sklearn.feature_extraction import FeatureHasher
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from benchmarks.defaults.source import Source

_N_HASHES = 2**18


class Columns:
    """The columns of a table that its schema names, as baselines read them."""

    def __init__(self, source: Source, table: pa.Table) -> None:
        numeric = [name for name in table.column_names if any(fnmatchcase(name, pattern) for pattern in source.numeric)]
        numbers = [table[name].cast(pa.float64()).to_numpy(zero_copy_only=False) for name in numeric]
        self.numbers = np.stack(numbers, axis=1) if numbers else np.zeros((len(table), 0))
        """[n, n_numeric], NaN for null."""
        codes = [pc.dictionary_encode(table[name].cast(pa.string())).combine_chunks() for name in source.categorical]
        self.values = [np.asarray([*code.dictionary.to_pylist(), "null"], dtype=object) for code in codes]
        self.codes = (
            np.stack([code.indices.fill_null(len(code.dictionary)).to_numpy() for code in codes], axis=1)
            if codes
            else np.zeros((len(table), 0), np.int64)
        )
        """[n, n_categorical]: indices into `values`."""
        self._names = source.categorical

    def hashed(self) -> sparse.csr_matrix:
        """[n, _N_HASHES] one-hot values under the hashing trick (Weinberger et al., ICML 2009)."""
        hasher = FeatureHasher(_N_HASHES, input_type="string", alternate_sign=False)
        columns = []
        for index, name in enumerate(self._names):
            one_hot = hasher.transform([[f"{name}={value}"] for value in self.values[index]])
            columns.append(one_hot[self.codes[:, index]])
        return sum(columns, start=sparse.csr_matrix((len(self.codes), _N_HASHES)))

    def standardized(self, fitting: np.ndarray) -> np.ndarray:
        """[n, 2 n_numeric]: signed logarithms, standardized on the [n] fitting rows, and indicators of nulls."""
        if not self.numbers.size:
            return self.numbers
        log = np.sign(self.numbers) * np.log1p(np.abs(self.numbers))
        log = np.nan_to_num(np.clip(StandardScaler().fit(log[fitting]).transform(log), -5, 5), nan=0.0)
        return np.concatenate([log, np.isnan(self.numbers)], axis=1)


def out_of_fold(columns: Columns, label: np.ndarray, fold: np.ndarray, fit: Callable[..., np.ndarray]) -> np.ndarray:
    """[n] probabilities of the rows of each fold, by a model that is fitted to the rows of all other folds."""
    p = np.full(len(label), np.nan)
    for held_out in np.unique(fold[fold >= 0]):
        p[fold == held_out] = fit(columns, label, fold != held_out, fold == held_out)
    return p


def logistic_regression(
    columns: Columns, label: np.ndarray, fitting: np.ndarray, held_out: np.ndarray, c: float = 1.0
) -> np.ndarray:
    """Probabilities of the held-out rows by scikit-learn's logistic regression, by default with its own strength."""
    x = sparse.hstack([columns.hashed(), columns.standardized(fitting)], format="csr")
    model = LogisticRegression(solver="liblinear", C=c).fit(x[fitting], label[fitting])
    return model.predict_proba(x[held_out])[:, 1]


def tuned_logistic_regression(
    columns: Columns, label: np.ndarray, fitting: np.ndarray, held_out: np.ndarray
) -> np.ndarray:
    """The same with a tenfold L2 penalty, which is better on nearly all of these data sets."""
    return logistic_regression(columns, label, fitting, held_out, 0.1)


def default_lightgbm(columns: Columns, label: np.ndarray, fitting: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Probabilities of the held-out rows by LightGBM's scikit-learn class with its defaults."""
    x = np.concatenate([columns.codes, columns.numbers], axis=1)
    model = lgb.LGBMClassifier(verbose=-1, random_state=0, n_jobs=1)
    model.fit(x[fitting], label[fitting], categorical_feature=list(range(columns.codes.shape[1])))
    return model.predict_proba(x[held_out])[:, 1]


def constant_rate(_: Columns, label: np.ndarray, fitting: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """The click rate of the fitting rows."""
    return np.full(int(held_out.sum()), label[fitting].mean())
