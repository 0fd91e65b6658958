from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from recsys.data.batch import Batch
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.evaluation.metrics import Metrics
from recsys.training.early_stopping import composite
from recsys.training.predict import evaluate
from tests.helpers.small import prepare_small, small_table
from tests.helpers.training import QUICK, assert_same, fit, quick, trainer_of, weights_of


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tables", [{}, {"*": {"optimizer": "rowwise_adagrad"}}], ids=["adamw", "fused"])
def test_training_learns_the_signal(small: PreparedDataset, tmp_path: Path, precision: str, tables: object) -> None:
    trainer, report = fit(small, "fold_0", quick(precision=precision, embeddings={"tables": tables}), tmp_path)
    split = small.split("fold_0")
    logits = trainer.predict(split.held_out_rows, "scoring")
    metrics = evaluate(logits, split, split.held_out_rows, report.link)
    assert metrics.roc_auc is not None
    assert metrics.roc_auc > 0.75
    assert report.progress.epochs[-1].loss < report.progress.epochs[0].loss
    assert report.progress.precision == precision


@pytest.mark.parametrize(
    "loss",
    [
        {"pos_weight": 20.0},
        {"pos_weight": "auto"},
        {"name": "focal", "gamma": 2.0, "alpha": 0.25},
        {"name": "focal", "gamma": 1.0},
    ],
    ids=str,
)
def test_p_is_unbiased_under_every_loss(tmp_path: Path, loss: dict[str, object]) -> None:
    """The true click probabilities are known: p agrees with their mean, overall and in each quarter."""
    table = small_table(20_000)
    color, x_1 = np.array(table["color"].to_pylist()), table["x_1"].to_numpy()
    truth = 1 / (1 + np.exp(-(1.5 * (color == "red") + x_1 - 1.5)))
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out")
    config = quick(batch_size=500, early_stopping=None, loss=loss)
    trainer, report = fit(dataset, "fold_0", config, tmp_path)
    rows = dataset.split("fold_0").held_out_rows
    p = report.link.logits(trainer.predict(rows, "scoring")).p
    true_p = truth[rows.numbers()]
    known = np.isfinite(true_p)  # the true p of rows with null features is unknown
    p, true_p = p[known], true_p[known]
    assert p.mean() == pytest.approx(true_p.mean(), abs=0.015)
    for quarter in np.array_split(np.argsort(true_p), 4):
        assert p[quarter].mean() == pytest.approx(true_p[quarter].mean(), abs=0.03)


def test_the_same_seed_gives_the_same_model(small: PreparedDataset, tmp_path: Path) -> None:
    (a, report_a), (b, report_b) = (fit(small, "fold_0", QUICK, tmp_path / name) for name in "ab")
    assert [epoch.loss for epoch in report_a.progress.epochs] == [epoch.loss for epoch in report_b.progress.epochs]
    assert_same(weights_of(a), weights_of(b))


def test_early_stopping_keeps_the_best_epoch(small: PreparedDataset, tmp_path: Path) -> None:
    # A high learning rate overfits 1,600 rows within one or two epochs.
    stopping = {"weights": {"logloss": -1.0}, "patience": 2, "validation_fraction": 0.2}
    config = quick(epochs=30, batch_size=50, learning_rate=0.05, warmup_fraction=0, early_stopping=stopping)
    trainer, report = fit(small, "fold_0", config, tmp_path)
    values = [epoch.monitored for epoch in report.progress.epochs]
    assert len(values) == report.progress.best_epoch + 3 < 30
    best = values[report.progress.best_epoch]
    assert best == max(value for value in values if value is not None)
    # the model has the weights of that epoch
    again = trainer_of(small, "fold_0", config, tmp_path / "again")
    monitored = again._task.monitor
    assert monitored is not None
    metrics = evaluate(trainer.predict(monitored, "scoring"), small.split("fold_0"), monitored, report.link)
    assert -metrics.logloss == pytest.approx(best)


def test_early_stopping_does_not_use_the_held_out_rows(small: PreparedDataset, tmp_path: Path) -> None:
    """Flipped labels of the held-out fold change neither training nor early stopping."""
    table = small_table()
    split = small.split("fold_2")
    held_out = set(split.held_out_rows.numbers().tolist())
    label = [1 - y if row in held_out else y for row, y in enumerate(table["click"].to_pylist())]
    turned = table.set_column(table.column_names.index("click"), "click", [np.array(label, np.int8)])
    other = prepare_small(turned, tmp_path / "raw", tmp_path / "out")
    a, report_a = fit(small, "fold_2", QUICK, tmp_path / "a")
    b, report_b = fit(other, "fold_2", QUICK, tmp_path / "b")
    monitored_a, monitored_b = ([e.monitored for e in report.progress.epochs] for report in (report_a, report_b))
    assert monitored_a == monitored_b
    assert_same(weights_of(a), weights_of(b))


def test_no_early_stopping_trains_on_all_rows(small: PreparedDataset, tmp_path: Path) -> None:
    _, report = fit(small, "fold_0", quick(early_stopping=None, epochs=1), tmp_path / "a")
    assert report.n_rows == len(small.split("fold_0").fit_rows)
    _, report = fit(small, "fold_0", quick(epochs=1), tmp_path / "b")
    assert report.n_rows < len(small.split("fold_0").fit_rows)


def test_error_of_a_non_finite_loss_names_a_fix(small: PreparedDataset, tmp_path: Path) -> None:
    class Broken(nn.Module):
        sequences = ()

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(float("inf")))

        def forward(self, batch: Batch) -> torch.Tensor:
            return self.scale * batch.dense[:, 0]

    with pytest.raises(InputError, match="not finite, even in fp32: lower trainer.learning_rate"):
        trainer_of(small, "full", QUICK, tmp_path, Broken()).fit()


def test_composite_weighs_metrics() -> None:
    metrics = Metrics(
        n_rows=10, n_positive=5, ap=0.5, wll=0.6, roc_auc=0.7, pr_auc=0.5, logloss=0.6, ece=0.1, score=0.4
    )
    assert composite(metrics, {"ap": 2.0, "wll": -1.0}) == pytest.approx(0.4)


def test_composite_of_an_undefined_metric_is_an_error() -> None:
    with pytest.raises(InputError, match="ap is undefined on the 10 monitored rows"):
        composite(Metrics(n_rows=10, n_positive=0), {"ap": 1.0})


def test_stop_after_keeps_the_schedule_of_the_full_training(small: PreparedDataset, tmp_path: Path) -> None:
    """The losses until stop_after equal those of the full training: the learning-rate schedule is the same."""
    whole, cut = (
        fit(small, "fold_0", quick(early_stopping=None, stop_after=stop), tmp_path / str(stop))[1].progress.epochs
        for stop in (None, 2)
    )
    assert len(whole) == 4
    assert [epoch.loss for epoch in cut] == [epoch.loss for epoch in whole[:2]]
