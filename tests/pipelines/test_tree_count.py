"""Folds share the number of trees that is best on the mean of their monitored curves."""

import json
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest

from tests.helpers.commands import Run

GBDT = ("rank", "--model", "gbdt", "--config", "config.yaml", "--data", "raw", "--out", "trees")
SIZES = ("model.learning_rate=0.3", "trainer.trees_per_epoch=5", "trainer.patience_trees=20", "model.n_trees=200")


def curves_of(folder: Path) -> list[list[float]]:
    fits = json.loads((folder / "metrics.json").read_text())["train"]["fits"]
    return [[epoch["monitored"] for epoch in fit["epochs"]] for fit in fits.values()]


def test_every_fold_keeps_the_trees_of_the_best_mean(run: Run, project: Path) -> None:
    assert run(*GBDT, *SIZES).code == 0
    folder = project / "trees"
    curves = curves_of(folder)
    n_common = min(map(len, curves))
    assert len({len(curve) for curve in curves}) > 1  # the folds stop at different numbers of trees
    best = int(np.argmax(np.mean([curve[:n_common] for curve in curves], axis=0)))
    kept = [lgb.Booster(model_file=path).num_trees() for path in sorted(folder.glob("ckpt/*/model.txt"))]
    assert kept == [5 * (best + 1)] * 3
    assert not list(folder.rglob("all_trees.txt"))
    fits = json.loads((folder / "metrics.json").read_text())["train"]["fits"]
    assert {fit["best_epoch"] for fit in fits.values()} == {best}


def test_a_run_killed_before_the_folds_agree_ends_as_an_undisturbed_one(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(*GBDT, *SIZES).code == 0
    expected = (project / "trees" / "oof.csv").read_bytes()
    again = ("rank", "--model", "gbdt", "--config", "config.yaml", "--data", "raw", "--out", "again", *SIZES)

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.rank.share_tree_count", kill)
        assert run(*again).code == 130
    assert run(*again).code == 0
    assert (project / "again" / "oof.csv").read_bytes() == expected


def test_one_fit_stops_by_its_own_curve(run: Run, project: Path) -> None:
    assert run(*GBDT, *SIZES, "--folds", "holdout").code == 0
    (curve,) = curves_of(project / "trees")
    (path,) = (project / "trees").glob("ckpt/*/model.txt")
    assert lgb.Booster(model_file=path).num_trees() == 5 * (int(np.argmax(curve)) + 1)
    assert not list((project / "trees").rglob("all_trees.txt"))
