"""The baselines beside every run, against scikit-learn on matrices that are written out."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ranking.baselines import CONSTANT, LOGISTIC, LogisticBaseline, measure_baselines
from recsys.data.dataset import PreparedDataset
from recsys.data.rows import ListedRows
from recsys.data.split import Split
from recsys.evaluation.logits import Logits
from recsys.runs.predictions import Predictions
from recsys.schema.feature_selection import FeatureConfig


def one_hot_and_numbers(split: Split, rows: np.ndarray) -> np.ndarray:
    ids, numbers = split.table(rows)
    sizes = [split.schema.num_embeddings[name] for name in split.schema.categorical]
    columns = [ids[:, [column]] == np.arange(n_ids) for column, n_ids in enumerate(sizes)]
    return np.concatenate([*columns, np.nan_to_num(numbers)], axis=1).astype(np.float64)


@pytest.mark.parametrize("left_out", [[], ["color", "shop"]], ids=["all", "no ids"])
def test_the_logistic_regression_is_that_of_the_written_out_matrix(small: PreparedDataset, left_out: list[str]) -> None:
    split = small.split("fold_0", FeatureConfig(leave_out=tuple(left_out)))
    fitted, held_out = split.fit_rows.numbers(), split.held_out_rows.numbers()
    model = LogisticRegression(C=0.1, solver="liblinear")
    model.fit(one_hot_and_numbers(split, fitted), split.store.labels(fitted))
    expected = model.decision_function(one_hot_and_numbers(split, held_out))
    assert np.allclose(LogisticBaseline(split).logits(ListedRows(held_out)), expected, atol=0.02)


def test_many_rows_are_sampled(small: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    split = small.split("fold_0")
    every = LogisticBaseline(split).logits(split.held_out_rows)
    monkeypatch.setattr("ranking.baselines.MAX_ROWS", 400)
    some = LogisticBaseline(split).logits(split.held_out_rows)
    assert not np.allclose(every, some)
    assert np.corrcoef(every, some)[0, 1] > 0.8
    assert np.array_equal(some, LogisticBaseline(split).logits(split.held_out_rows))


def test_baselines_are_measured_on_the_reported_rows_of_each_split(small: PreparedDataset) -> None:
    splits, reported = [small.split("fold_0"), small.split("fold_1")], []
    for split in splits:
        row = split.held_out_rows.numbers()
        label = split.store.labels(row)
        logits = Logits.of_one_fit(np.zeros(len(row)), 0.0)
        reported.append(Predictions.of_fold(split.name, row, label, logits))
    metrics = measure_baselines(splits, reported)
    label = np.concatenate([fold.label for fold in reported])
    rate = np.concatenate(
        [np.full(len(fold), s.prior.n_positive / len(s.fit_rows)) for s, fold in zip(splits, reported, strict=True)]
    )
    expected = -np.mean(np.where(label == 1, np.log(rate), np.log(1 - rate)))
    assert metrics[CONSTANT].logloss == pytest.approx(expected)
    assert metrics[LOGISTIC].n_rows == len(label)
    assert metrics[LOGISTIC].logloss < metrics[CONSTANT].logloss
