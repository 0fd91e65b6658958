import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.data import layout
from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.prepare.run import prepare
from recsys.schema.config import SchemaConfig
from tests.helpers.small import prepare_small, small_schema, small_table

LAYOUT_FREE = (layout.VOCAB_FILE, layout.STATS_FILE, layout.GROUPS_FILE)


def folds_by_id(dataset: PreparedDataset) -> dict[str, int]:
    rows = np.arange(dataset.n_rows)
    found = {}
    for fold in range(5):
        held_out = dataset.split(f"fold_{fold}").held_out_rows
        ids = dataset.store.row_ids(held_out.numbers()).to_pylist()
        found |= dict.fromkeys(ids, fold)
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize("change", ["row order", "files", "row groups", "column order"])
def test_result_does_not_depend_on_the_layout_of_the_files(small: PreparedDataset, tmp_path: Path, change: str) -> None:
    table, raw = small_table(), tmp_path / "raw"
    raw.mkdir()
    if change == "row order":
        table = table.take(np.random.default_rng(1).permutation(table.num_rows))
    if change == "column order":
        table = table.select(table.column_names[::-1])
    parts = [table.slice(start, 701) for start in range(0, 2000, 701)] if change == "files" else [table]
    for index, part in enumerate(parts):
        pq.write_table(part, raw / f"{index}.parquet", row_group_size=37 if change == "row groups" else 1000)
    prepare(small_schema(), RawFiles(train=(".",)), PrepareConfig(min_count=3), raw, tmp_path / "out", "small")
    for name in LAYOUT_FREE:
        assert (tmp_path / "out" / name).read_bytes() == (small.folder / name).read_bytes(), name
    assert folds_by_id(PreparedDataset.open(tmp_path / "out")) == folds_by_id(small)


@pytest.mark.parametrize("fold", [0, 3])
def test_fold_split_does_not_depend_on_its_held_out_rows(small: PreparedDataset, tmp_path: Path, fold: int) -> None:
    """Replaces all values of the fold's rows but their ids; the schema, prior and batches must not change."""
    mine = folds_by_id(small)
    table = small_table()
    in_fold = np.array([mine[name] == fold for name in table["id"].to_pylist()])
    n = int(in_fold.sum())
    changed = {
        "color": ["poison"] * n, "shop": np.full(n, 99_999, np.float32), "x_1": np.full(n, np.nan, np.float32),
        "x_2": np.full(n, 1e6, np.float32), "x_10": np.full(n, -77, np.int16), "seen": ["666,667,668"] * n,
        "click": np.ones(n, np.int8), "id": table["id"].filter(pa.array(in_fold)), "day": np.ones(n, np.int64),
    }  # fmt: skip
    poison = pa.table(changed).select(table.column_names).cast(table.schema)
    both = pa.concat_tables([table.filter(pa.array(~in_fold)), poison])
    other = prepare_small(both, tmp_path / "raw", tmp_path / "out")
    assert folds_by_id(other) == mine

    before, after = small.split(f"fold_{fold}"), other.split(f"fold_{fold}")
    assert after.schema == before.schema
    assert after.prior == before.prior
    rows = before.fit_rows.numbers()
    by_id = {name: row for row, name in enumerate(other.store.row_ids(np.arange(other.n_rows)).to_pylist())}
    other_rows = np.array([by_id[name] for name in small.store.row_ids(rows).to_pylist()])
    a, b = before.batch(rows, ["seen", "steps"]), after.batch(other_rows, ["seen", "steps"])
    assert a.dense.equal(b.dense)
    assert a.sparse.values().equal(b.sparse.values())
    assert a.sequences.values().equal(b.sequences.values())
    assert a.sequences.weights().equal(b.sequences.weights())
    # The change does affect the splits of other folds, so this test can fail.
    assert other.split(f"fold_{(fold + 1) % 5}").schema != small.split(f"fold_{(fold + 1) % 5}").schema


def test_folds_depend_only_on_seed_and_id(small: PreparedDataset, tmp_path: Path) -> None:
    fewer = prepare_small(small_table().slice(500, 900), tmp_path / "raw", tmp_path / "a")
    mine = folds_by_id(small)
    assert all(mine[name] == fold for name, fold in folds_by_id(fewer).items())
    reseeded = prepare_small(small_table(), tmp_path / "raw", tmp_path / "b", seed=1)
    assert folds_by_id(reseeded) != mine


def test_exact_stratification_balances_each_class(tmp_path: Path) -> None:
    dataset = prepare_small(small_table(), tmp_path / "raw", tmp_path / "out", stratify="exact")
    for count in ("n_rows", "n_positive"):
        by_fold = np.zeros(5)
        for group in dataset.groups:
            by_fold[group.fold] += getattr(group, count)
        assert np.ptp(by_fold) <= 2


def test_holdout_is_the_last_day(small: PreparedDataset) -> None:
    split = small.split("holdout")
    day = np.array(small_table()["day"].to_pylist())
    held_out = split.held_out_rows.numbers()
    assert set(day[held_out]) == {7}
    assert 7 not in set(day[split.fit_rows.numbers()])


def test_days_are_ordered_as_numbers(tmp_path: Path) -> None:
    table = small_table()
    days = pa.array(["10" if day == 7 else "9" for day in table["day"].to_pylist()])
    schema = small_schema(numbers_as_text=["day"])
    dataset = prepare_small(table.set_column(1, "day", days), tmp_path / "raw", tmp_path / "out", schema)
    assert dataset.manifest.holdout_day == "10"


def test_split_column_keeps_valid_and_test_out_of_the_vocabulary(tmp_path: Path) -> None:
    table = small_table()
    name = pa.array(["test" if i % 4 == 0 else "valid" if i % 4 == 1 else "train" for i in range(table.num_rows)])
    color = pa.array(["only in test" if i % 4 == 0 else c for i, c in enumerate(table["color"].to_pylist())])
    table = table.append_column("split", name).set_column(2, "color", color)
    schema = small_schema(split="split")
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out", schema)
    assert dataset.predefined_splits == ("valid", "test")
    assert "only in test" not in dataset.vocabularies["color"].values.to_pylist()
    assert len(dataset.partition_rows("test")) == 500


def test_side_tables_join_by_key(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    pq.write_table(
        pa.table({"shop": [1.0, 2.0, 3.0], "city": ["A", "B", "A"], "leak": [1, 0, 1]}), raw / "shops.parquet"
    )
    schema = small_schema(
        categorical=["color", "shop", "city"],
        side_tables={"shops": {"file": "shops.parquet", "key": "shop", "columns": ["city"]}},
    )
    dataset = prepare_small(small_table(), raw, tmp_path / "out", schema)
    codes = dataset.store.read_sparse(np.arange(2000))[:, 2]
    city = dataset.vocabularies["city"].values.to_pylist()
    expected = {1.0: "A", 2.0: "B", 3.0: "A"}
    for shop, code in zip(small_table()["shop"].to_pylist(), codes, strict=True):
        assert (city[code - 2] if code >= 2 else None) == expected.get(shop)


def test_the_same_input_is_prepared_once_and_other_input_is_not_overwritten(tmp_path: Path) -> None:
    first = prepare_small(small_table(), tmp_path / "raw", tmp_path / "out")
    stamp = (first.folder / layout.ROWS_FILE).stat().st_mtime_ns
    config, files = PrepareConfig(min_count=3), RawFiles(train=("train.parquet",))
    prepare(small_schema(), files, config, tmp_path / "raw", tmp_path / "out", "small")
    assert (first.folder / layout.ROWS_FILE).stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match="exists and is not this prepared data set"):
        prepare(small_schema(), files, PrepareConfig(min_count=4), tmp_path / "raw", tmp_path / "out", "small")


def test_killed_preparation_is_not_taken_for_a_finished_one(tmp_path: Path, small: PreparedDataset) -> None:
    shutil.copytree(small.folder, tmp_path / "out.partial")
    (tmp_path / "out.partial" / "DONE").unlink()
    again = prepare_small(small_table(), tmp_path / "raw", tmp_path / "out")
    assert (again.folder / layout.VOCAB_FILE).read_bytes() == (small.folder / layout.VOCAB_FILE).read_bytes()
    assert not (tmp_path / "out.partial").exists()


def test_vocab_and_stats_files_are_correct(small: PreparedDataset) -> None:
    vocab = json.loads((small.folder / layout.VOCAB_FILE).read_text())
    colors = small_table()["color"].to_pylist()
    expected = {value: colors.count(value) for value in ("red", "green", "blue", "grey")}
    assert dict(zip(vocab["color"]["values"], vocab["color"]["counts"], strict=True)) == expected
    stats = json.loads((small.folder / layout.STATS_FILE).read_text())["numeric"]["full"]["x_10"]
    values = small_table()["x_10"].to_numpy()
    assert stats["mean"] == pytest.approx(values.mean())
    assert stats["std"] == pytest.approx(values.std())


def test_a_schema_of_one_kind_of_column_is_enough(tmp_path: Path) -> None:
    for index, roles in enumerate(({"numeric": ("x_1",)}, {"categorical": ("color",)})):
        schema = SchemaConfig(label="click", **roles)
        dataset = prepare_small(small_table(), tmp_path / "raw", tmp_path / f"out{index}", schema)
        assert len(dataset.split("full").batch(np.arange(5), [])) == 5


@pytest.mark.slow
def test_a_million_rows_stay_under_two_gib(tmp_path: Path) -> None:
    generate = "from pathlib import Path; from recsys.synthetic import *; "
    generate += f"generate(GeneratorConfig(n_rows=1_000_000, n_test_rows=1000), Path({str(tmp_path / 'raw')!r}))"
    subprocess.run([sys.executable, "-c", generate], check=True)
    command = [sys.executable, "-m", "pipelines.prepare", "--config", "configs/toss.yaml"]
    command += ["--train", str(tmp_path / "raw/train.parquet"), "--out", str(tmp_path / "out")]
    report = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
    report += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    done = subprocess.run([sys.executable, "-c", report, *command], check=True, capture_output=True, text=True)
    peak_gib = int(done.stdout.strip().splitlines()[-1]) / 2**20
    print(f"peak resident memory {peak_gib:.2f} GiB")
    assert peak_gib < 2
