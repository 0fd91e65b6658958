"""The number of trees is the best on a mean of monitored curves that no reported row has a say in."""

import json
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest
import yaml

from pipelines.common.config import RankConfig, load_rank_config
from pipelines.parts.fits import fits_of
from pipelines.parts.tree_counts import best_epoch, fits_that_monitor_no_row_of
from recsys.data.dataset import PreparedDataset
from recsys.runs.layout import fit_name
from recsys.training.early_stopping import split_monitored_rows
from tests.helpers.commands import Run
from tests.helpers.small import SMALL_SCHEMA

GBDT = ("rank", "--model", "gbdt", "--config", "config.yaml", "--data", "raw", "--out", "trees")
SIZES = ("model.learning_rate=0.3", "trainer.trees_per_epoch=5", "trainer.patience_trees=20", "model.n_trees=200")


def curves_of(folder: Path) -> list[list[float]]:
    fits = json.loads((folder / "metrics.json").read_text())["train"]["fits"]
    return [[epoch["monitored"] for epoch in fit["epochs"]] for fit in fits.values()]


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_a_fold_keeps_the_trees_of_the_best_mean_over_fits_that_monitored_none_of_its_rows(
    run: Run, project: Path, n_seeds: int
) -> None:
    command = (*GBDT, *SIZES, f"trainer.seeds={n_seeds}")
    assert run(*command).code == 0
    folder = project / "trees"
    fits = json.loads((folder / "metrics.json").read_text())["train"]["fits"]
    curves = dict(zip(fits, curves_of(folder), strict=True))
    assert len({len(curve) for curve in curves.values()}) > 1  # the fits stop at different numbers of trees
    (prepared,) = project.glob("prepared/*")
    settings = load_rank_config(project / "config.yaml", "gbdt", [*SIZES, f"trainer.seeds={n_seeds}"])
    splits = ["fold_0", "fold_1", "fold_2"]
    independent = fits_that_monitor_no_row_of(settings, PreparedDataset.open(prepared), splits)
    for split in splits:
        assert set(fits_of_split(split, n_seeds)) <= set(independent[split])
        n_trees = 5 * (best_epoch([curves[name] for name in independent[split]]) + 1)
        for name in fits_of_split(split, n_seeds):
            assert lgb.Booster(model_file=folder / "ckpt" / name / "model.txt").num_trees() == n_trees
            assert fits[name]["best_epoch"] == n_trees // 5 - 1
    assert not list(folder.rglob("all_trees.txt"))


def fits_of_split(split: str, n_seeds: int) -> list[str]:
    return [fit_name(split, number) for number in range(n_seeds)]


def test_the_best_epoch_by_hand() -> None:
    assert best_epoch([[0.1, 0.5, 0.2], [0.4, 0.3, 0.2, 9.0]]) == 1  # means .25, .4, .2; one curve has no fourth


def test_fits_that_monitored_rows_of_a_fold_have_no_say_in_its_trees(small: PreparedDataset, tmp_path: Path) -> None:
    """A random sample of all other folds leaves a fold its own fit; the last day's fit has no row of the last day."""
    settings = load_rank_config(write_config(tmp_path), "gbdt", ["trainer.seeds=2"])
    splits = [name for name in small.split_names if name.startswith("fold_")]
    independent = fits_that_monitor_no_row_of(settings, small, splits)
    monitored = monitored_rows(settings, small, splits)
    for split in splits:
        reported = small.split(split).held_out_rows.numbers()
        expected = [name for name, rows in monitored.items() if not np.isin(rows, reported).any()]
        assert independent[split] == expected


def write_config(folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"name": "small", "files": {"train": ["train.parquet"]}, "schema": SMALL_SCHEMA}))
    return path


def monitored_rows(settings: RankConfig, dataset: PreparedDataset, splits: list[str]) -> dict[str, np.ndarray]:
    found = {}
    for fit in fits_of(settings, splits):
        trainer, split = fit.settings(settings).trainer, dataset.split(fit.split)
        _, rows = split_monitored_rows(split, None, trainer.early_stopping, trainer.seed)
        assert rows is not None
        found[fit.name] = rows.numbers()
    return found


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
