"""Which splits the commands fit to: folds, forward windows, the tuning part."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import yaml

from pipelines.common.splits import choose_splits
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.system.seal import seal
from tests.helpers.commands import Run
from tests.helpers.earlier_format import copy_in_format_3
from tests.helpers.small import prepare_small, small_schema, small_table
from tests.helpers.users import user_clicks

QUICK = ("--config", "config.yaml", "--data", "raw", "--model", "dcnv2", "trainer.epochs=1")


def test_splits_of_the_folds_option(small: PreparedDataset) -> None:
    folds = [f"fold_{number}" for number in range(5)]
    assert choose_splits(small, None) == choose_splits(small, "all") == folds
    assert choose_splits(small, "forward") == ["forward_1", "forward_2", "forward_3"]
    assert choose_splits(small, "holdout") == ["holdout"]
    assert choose_splits(small, "3, 1,3") == ["fold_3", "fold_1"]
    assert choose_splits(small, None, recorded=["forward_1"]) == ["forward_1"]
    assert choose_splits(small, "full", recorded=["forward_1"]) == ["full"]


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ("7", "--folds 7: .* has no fold_7; it has full, fold_0"),
        ("forward,1", "has no fold_forward"),
        ("tuning", r"has no tuning; .*\(a tuning part needs prepare.folds.tuning_share above 0\): pass all, forward"),
    ],
)
def test_splits_that_the_data_lacks_are_named(small: PreparedDataset, folds: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_splits(small, folds)


def test_data_without_days_or_folds_says_why(tmp_path: Path) -> None:
    dataset = prepare_small(small_table(), tmp_path / "raw", tmp_path / "out", small_schema(day=None))
    with pytest.raises(InputError, match=r"no forward_1; .*\(forward windows need schema.day or a split by time"):
        choose_splits(dataset, "forward")
    few = small_table().drop_columns(["id"]).take([0, 1, 2, 3] * 20)
    dataset = prepare_small(few, tmp_path / "few", tmp_path / "out2", small_schema(id=None, day=None), min_count=1)
    with pytest.raises(InputError, match=r"--folds all: .* no fold_0; .*training rows have fewer than 5 distinct ones"):
        choose_splits(dataset, None)


def test_forward_windows_are_reported_by_their_names(project: Path, run: Run) -> None:
    outcome = run("rank", *QUICK, "--folds", "forward", "--out", "forward")
    assert outcome.code == 0, outcome.err
    oof = pa_csv.read_csv("forward/oof.csv")
    day = dict(zip(*small_table().select(["id", "day"]).to_pydict().values(), strict=True))
    found = {(fold, day[row]) for fold, row in zip(oof["fold"].to_pylist(), oof["row_id"].to_pylist(), strict=True)}
    assert found == {("forward_1", 5), ("forward_2", 6), ("forward_3", 7)}
    assert len(oof) == sum(one >= 5 for one in day.values())


def test_sweeps_choose_on_the_tuning_part_if_there_is_one(project: Path, run: Run) -> None:
    config = yaml.safe_load(Path("config.yaml").read_text())
    sweep = ("sweep", *QUICK, "model.cross_depth=1,2", "--out")
    outcome = run(*sweep, "reported")
    assert outcome.code == 0, outcome.err
    assert "chosen among 2 on the rows that it is reported for (fold_0, fold_1, fold_2)" in " ".join(
        outcome.out.split()
    )
    config["prepare"]["folds"] = {"tuning_share": 0.2}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    outcome = run(*sweep, "swept")
    assert outcome.code == 0, outcome.err
    assert "on the rows that it is reported for" not in " ".join(outcome.out.split())
    metrics = [json.loads(path.read_text()) for path in Path("swept").glob("*/metrics.json")]
    assert [list(trial["folds"]) for trial in metrics] == [["tuning"]] * 2


def test_random_folds_with_histories_of_labels_are_warned_of(project: Path, run: Run) -> None:
    table = user_clicks(40, 10)
    rng, n = np.random.default_rng(0), table.num_rows
    table = table.append_column("at", pa.array(rng.permutation(n)))
    table = table.append_column("ware", pa.array(rng.integers(0, 9, n)))
    pq.write_table(table, "raw/train.parquet")
    config = yaml.safe_load(Path("config.yaml").read_text())
    log = {"kind": "log", "key": "user", "item": "ware", "order": "at", "where": {"column": "click", "min": 1}}
    config["schema"] = {"label": "click", "categorical": ["ware"], "sequences": {"clicked": log}}
    warning = "warning: schema.sequences.clicked reads the label (column 'click')"
    for user, is_warned in ((None, True), ("user", False)):
        config["schema"]["user"] = user
        Path("config.yaml").write_text(yaml.safe_dump(config))
        prepared = run(
            "prepare", "--config", "config.yaml", "--train", "raw/train.parquet", "--out", f"prepared-{user}"
        )
        assert prepared.code == 0, prepared.err
        assert (warning in prepared.out) == is_warned
        data = ("--config", "config.yaml", "--data", f"prepared-{user}", "trainer.epochs=1")
        ranked = run("rank", "--model", "dcnv2", *data, "--folds", "0", "--out", f"run-{user}")
        assert ranked.code == 0, ranked.err
        assert (warning in ranked.out) == is_warned


def test_data_of_the_earlier_format_keeps_its_histories(project: Path, run: Run) -> None:
    """Its stored config does not say where histories end; a config that asks for another end is refused."""
    config = yaml.safe_load(Path("config.yaml").read_text())
    log = {"kind": "log", "key": "shop", "item": "color", "order": "day"}
    config["schema"] = {"label": "click", "day": "day", "categorical": ["color"], "sequences": {"bought": log}}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    prepare = ("prepare", "--config", "config.yaml", "--train", "raw/train.parquet", "--out", "new")
    assert run(*prepare, "schema.sequences.bought.history_until=row").code == 0
    old = copy_in_format_3(Path("new"), Path("old"))
    (old / "config.yaml").write_text(yaml.safe_dump(config))
    seal(old)
    rank = ("rank", "--data", "old", "--model", "dcnv2", "--folds", "holdout", "--out", "run", "trainer.epochs=1")
    outcome = run(*rank)
    assert outcome.code == 0, outcome.err
    assert "old was prepared by an earlier version: histories of evaluated rows hold steps of their own" in outcome.out
    outcome = run(*rank, "schema.sequences.bought.history_until=split")
    assert outcome.code == 2
    assert "another schema.sequences" in outcome.err
    assert "has no forward_1" in run("rank", "--data", "old", "--model", "dcnv2", "--folds", "forward").err
