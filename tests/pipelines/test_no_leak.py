"""One fold has random labels: a model that predicts them has been fitted to them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from recsys.evaluation.calibration.calibrator import CALIBRATIONS
from recsys.evaluation.calibration.choice import cross_calibrate
from recsys.runs.predictions import join_predictions, read_predictions
from tests.helpers.commands import Run
from tests.helpers.small import prepare_small, small_table

CHANCE_FOLD = "1"


@pytest.fixture
def runs(project: Path, run: Run) -> list[Path]:
    """Finished runs over three folds, one of them with random labels."""
    table = small_table(6000)
    folds = prepare_small(table, project / "plain", project / "plain-prepared", n_folds=3)
    mine = folds.split(f"fold_{CHANCE_FOLD}").held_out_rows
    rows = mine.numbers()
    label = table["click"].to_numpy().copy()
    label[rows] = np.random.default_rng(1).random(len(rows)) < 0.4
    place = table.column_names.index("click")
    pq.write_table(table.set_column(place, "click", pa.array(label)), project / "raw/train.parquet")
    for name, settings in (
        ("dcnv2", ["trainer.epochs=4"]),
        ("gbdt", ["model.n_trees=100", "model.min_data_in_leaf=5"]),
    ):
        outcome = run("rank", "--config", "config.yaml", "--data", "raw", "--model", name, "--out", name, *settings)
        assert outcome.code == 0, outcome.err
    assert run("ensemble", "--runs", "dcnv2", "gbdt", "--out", "both", "--replicates", "100").code == 0
    return [Path(name) for name in ("dcnv2", "gbdt", "both")]


def test_random_labels_of_a_fold_are_not_predicted(runs: list[Path]) -> None:
    for run in runs:
        found = pa_csv.read_csv(run / "oof.csv")
        fold, label, p = (found[name].to_numpy() for name in ("fold", "label", "p"))
        chance = fold == int(CHANCE_FOLD)
        assert chance.sum() > 1800
        # the standard error of the ROC-AUC is .013 here
        assert abs(roc_auc_score(label[chance], p[chance]) - 0.5) < 0.05, run
        assert roc_auc_score(label[~chance], p[~chance]) > 0.7, run

    predictions = join_predictions([read_predictions(run) for run in runs])
    for one in predictions:
        chance = one.fold == CHANCE_FOLD
        rate = one.label[chance].mean()
        knows_nothing = log_loss(one.label[chance], np.full(chance.sum(), rate))
        for kind in CALIBRATIONS:
            logit = cross_calibrate(kind, one.predictions.held_out).mean(axis=1)
            assert log_loss(one.label[chance], 1 / (1 + np.exp(-logit[chance]))) > knows_nothing
    # the fold's metrics, which early stopping could have biased, have no signal either
    for run in runs:
        assert abs(json.loads((run / "metrics.json").read_text())["folds"][CHANCE_FOLD]["roc_auc"] - 0.5) < 0.05
