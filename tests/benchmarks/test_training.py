"""The contenders of the training benchmark learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.speed.contenders import limit, ours, plain
from benchmarks.speed.contest import Rounds, Score, Task, load
from ranking.dcnv2 import DCNv2Config
from recsys.data.dataset import PreparedDataset
from tests.helpers.training import quick


@pytest.fixture(scope="module")
def task(small: PreparedDataset) -> Task:
    model = DCNv2Config(embedding_dim=4, hidden_dims=(16,)).model_dump()
    trainer = quick(early_stopping={"weights": {"roc_auc": 1.0}, "patience": 99}).model_dump()
    return Task(str(small.folder), "fold_0", model, trainer)


def test_contenders_learn_and_report(task: Task) -> None:
    for score in (ours(task), plain(task)):
        assert score.rows_per_s > 0
        assert len(score.curve) == len(score.predictions) == 4
        for (_, auc), logit in zip(score.curve, score.predictions, strict=True):
            assert roc_auc_score(task.label(), logit) == pytest.approx(auc)
        assert max(auc for _, auc in score.curve) > 0.75  # the last epochs overfit these few rows
        assert [seconds for seconds, _ in score.curve] == sorted(seconds for seconds, _ in score.curve)
    assert limit(task).rows_per_s > 0


def test_time_to_a_target() -> None:
    score = Score(1.0, curve=[(1.0, 0.6), (2.0, 0.8), (3.0, 0.7)])
    assert score.time_to(0.75) == 2.0
    assert score.time_to(0.9) is None


def test_rounds_have_the_fastest_speed_the_mean_curve_and_the_gain_of_all() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=2000)
    label = (rng.random(2000) < 1 / (1 + np.exp(-truth))).astype(np.int8)

    def rounds_of(error: float) -> Rounds:
        scores = []
        for number in (1, 2):
            logit = truth + rng.normal(0, error, 2000)
            curve = [(float(number), float(roc_auc_score(label, logit)))]
            scores.append(Score(100.0 * number, curve=curve, predictions=[logit]))
        return Rounds(scores)

    better, worse = rounds_of(0.5), rounds_of(2.0)
    assert better.best.rows_per_s == 200.0
    ((seconds, auc),) = better.curve
    assert (seconds, auc) == (1.5, pytest.approx(np.mean([score.curve[0][1] for score in better.scores])))
    assert better.time_to(auc) == 1.5
    assert better.time_to(0.99) is None
    gain = better.gain_over(worse, label, 0)
    assert gain.difference == pytest.approx(auc - worse.curve[0][1])
    assert gain.low < gain.difference < gain.high
    assert gain.high > 0
    assert Rounds([Score(1.0)]).curve == []


def test_loaded_arrays_equal_the_batches(small: PreparedDataset) -> None:
    split = small.split("fold_0")
    arrays = load(split, split.fit_rows, ["seen"])
    rows = split.fit_rows(np.arange(len(arrays)))
    batch = split.batch(rows, ["seen"])
    assert arrays.ids.T.ravel().tolist() == batch.sparse.values().tolist()
    ids, values = arrays.sequences
    assert (ids > 0).sum(axis=1).tolist() == batch.sequences["seen"].lengths().tolist()
    assert (ids[ids > 0] - 1).tolist() == batch.sequences["seen"].values().tolist()
    assert np.array_equal(values, ids > 0)
