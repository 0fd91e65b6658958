"""The classifier passes scikit-learn's checks and works in its tools."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

import gatectr

SETTINGS = {
    "prepare": {"min_count": 1},
    "trainer": {"epochs": 30, "batch_size": 64, "learning_rate": 0.02, "early_stopping": None},
}
CLASSIFIER = gatectr.CTRClassifier({"name": "dcnv2", "embedding_dim": 2, "hidden_dims": [8]}, settings=SETTINGS)


@parametrize_with_checks([CLASSIFIER])
def test_checks_of_scikit_learn(estimator: gatectr.CTRClassifier, check: Callable[[object], None]) -> None:
    check(estimator)


def rows(n: int = 300, seed: int = 0) -> tuple[pa.Table, np.ndarray]:
    """Rows whose class depends on a category and a number."""
    rng = np.random.default_rng(seed)
    country, price = rng.integers(0, 3, n), rng.normal(size=n)
    is_yes = rng.random(n) < 1 / (1 + np.exp(-3 * (country == 0) - 2 * price + 1))
    table = pa.table({"country": np.array(["kr", "us", "de"])[country], "price": price, "label": country})
    return table, np.where(is_yes, "yes", "no")


def test_frames_in_cross_validation_and_pipelines() -> None:
    pytest.importorskip("pandas")
    table, y = rows()
    X = table.to_pandas()
    pipeline = make_pipeline(FunctionTransformer(lambda frame: frame.assign(price=frame.price * 2)), clone(CLASSIFIER))
    assert cross_val_score(pipeline, X, y, cv=2, scoring="roc_auc").mean() > 0.75
    fitted = pipeline.fit(X, y)
    p = fitted.predict_proba(X)
    assert p.sum(axis=1) == pytest.approx(np.ones(len(X)))
    assert np.array_equal(fitted.predict(X), np.array(["no", "yes"])[p.argmax(axis=1)])
    assert (fitted.score(X, y)) > 0.7


def test_a_column_named_label_is_a_feature_and_types_are_roles() -> None:
    table, y = rows()
    fitted = clone(CLASSIFIER).fit(table, y)
    schema = fitted.run_.config["schema"]
    assert (schema["label"], schema["numeric"], schema["categorical"]) == ("label_", ["price", "label"], ["country"])
    given = clone(CLASSIFIER).set_params(schema={"categorical": ["country"]}).fit(table, y)
    assert given.run_.config["schema"]["numeric"] == []


def test_copies_and_pickles_outlive_the_original() -> None:
    table, y = rows()
    fitted = clone(CLASSIFIER).fit(table, y)
    p, others = fitted.predict_proba(table), [copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))]
    folder = fitted.run_.folder
    del fitted
    assert not folder.exists()
    for other in others:
        assert np.array_equal(other.predict_proba(table), p)
