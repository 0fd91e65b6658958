"""Clicks with a strong effect of the user, and out-of-fold scores of a model that reads the user."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.data.split import Split
from recsys.prepare.run import prepare
from recsys.schema.config import SchemaConfig

USER_SCHEMA = {"label": "click", "categorical": ["user"], "numeric": ["x"], "user": "user"}


def user_clicks(n_users: int, n_rows: int, seed: int = 0) -> pa.Table:
    """`n_rows` rows of each user in random order; the click depends on the user and a little on x."""
    rng = np.random.default_rng(seed)
    user = rng.permutation(np.repeat(np.arange(n_users), n_rows))
    effect, x = rng.normal(size=n_users), rng.normal(size=len(user))
    p = 1 / (1 + np.exp(-(1.5 * effect[user] + 0.3 * x - 3.5)))
    return pa.table({"user": user, "x": x, "click": (rng.random(len(user)) < p).astype(np.int8)})


def prepare_users(
    table: pa.Table, folder: Path, schema: dict[str, object] | None = None, n_files: int = 1, **settings: object
) -> PreparedDataset:
    """Prepares a table as training files of about equal numbers of rows."""
    folder.mkdir(parents=True)
    for number, rows in enumerate(np.array_split(np.arange(len(table)), n_files)):
        pq.write_table(table.take(pa.array(rows)), folder / f"train-{number}.parquet", row_group_size=500)
    config = PrepareConfig.model_validate({"min_count": 1} | settings)
    config_schema = SchemaConfig.model_validate(USER_SCHEMA | (schema or {}))
    prepare(config_schema, RawFiles(train=("train-*.parquet",)), config, folder, folder / "out", "users")
    return PreparedDataset.open(folder / "out")


def folds_of(dataset: PreparedDataset) -> np.ndarray:
    """The [n] folds of the rows; -1 for rows that no fold evaluates."""
    fold = np.full(dataset.n_rows, -1)
    for number in range(dataset.manifest.prepare.n_folds):
        fold[dataset.split(f"fold_{number}").held_out_rows.numbers()] = number
    return fold


def features(split: Split, rows: np.ndarray) -> sparse.csr_matrix:
    """One column for each id of the user, and one for x."""
    ids, numbers = split.table(rows)
    n_ids = split.schema.num_embeddings["user"]
    one_hot = sparse.csr_matrix((np.ones(len(rows)), (np.arange(len(rows)), ids[:, 0])), (len(rows), n_ids))
    return sparse.hstack([one_hot, numbers], format="csr")


def fitted(split: Split) -> LogisticRegression:
    """A logistic regression on the one-hot user and x, fitted to the split's fitting rows."""
    rows = split.fit_rows.numbers()
    return LogisticRegression(C=1.0, max_iter=200).fit(features(split, rows), split.store.labels(rows))


def out_of_fold_scores(dataset: PreparedDataset) -> np.ndarray:
    """The [n] scores of all rows by the models of the other folds."""
    scores = np.full(dataset.n_rows, np.nan)
    for number in range(dataset.manifest.prepare.n_folds):
        split = dataset.split(f"fold_{number}")
        rows = split.held_out_rows.numbers()
        scores[rows] = fitted(split).decision_function(features(split, rows))
    return scores
