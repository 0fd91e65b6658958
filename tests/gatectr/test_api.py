"""`import gatectr`: what the commands do, with tables in memory; their results are the witness."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

import gatectr
from tests.helpers.commands import Run as RunCommand
from tests.helpers.own_data import write_csv, write_own_data
from tests.pipelines.conftest import run as run  # the fixture

SCHEMA = {"label": "clicked", "categorical": ["country", "device", "ad"]}
SETTINGS = {
    "prepare": {"n_folds": 2, "min_count": 2},
    "trainer": {"epochs": 1, "batch_size": 100, "learning_rate": 0.02},
}
MODEL = {"name": "dcnv2", "embedding_dim": 4, "hidden_dims": [8]}


def table(n: int = 400, seed: int = 0) -> pa.Table:
    path = Path("rows.csv")
    write_csv(path, n, seed)
    read = pa_csv.read_csv(path)
    path.unlink()
    return read


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fitted() -> gatectr.Run:
    return gatectr.fit(table(), SCHEMA, MODEL, out="runs/a", **SETTINGS)


def test_it_gives_what_the_commands_give(run: RunCommand, capsys: pytest.CaptureFixture[str]) -> None:
    write_own_data(Path())
    for command in (
        ("prepare", "--config", "mine.yaml", "--train", "train.csv", "--test", "test.csv", "--out", "prepared"),
        ("rank", "--data", "prepared", "--model", "dcnv2", "--out", "by_command"),
        ("submit", "--run", "by_command", "--scale", "natural", "--out", "scores.csv"),
    ):
        outcome = run(*command)
        assert outcome.code == 0, outcome.err
    in_python = gatectr.fit("train.csv", "mine.yaml", "dcnv2", test="test.csv", out="in_python")
    assert Path("in_python/oof.csv").read_bytes() == Path("by_command/oof.csv").read_bytes()
    assert in_python.metrics.overall == gatectr.load("by_command").metrics.overall
    with Path("scores.csv").open() as file:
        expected = [float(row["clicked"]) for row in csv.DictReader(file)]
    assert in_python.predict("test.csv") == pytest.approx(expected, abs=1e-12)
    assert in_python.config["run"]["command"] == "gatectr.fit"
    printed = capsys.readouterr()
    assert printed.out + printed.err == "", "quiet unless asked"


def test_table_has_the_figures_of_metrics_json(fitted: gatectr.Run) -> None:
    found, metrics = fitted.table(), fitted.metrics
    rows = {row["subset"]: row for row in found.to_pylist()}
    assert list(rows)[:5] == ["fold 0", "fold 1", "overall", "constant rate", "logistic regression"]
    assert rows["fold 1"]["logloss"] == metrics.folds["1"].logloss
    assert rows["overall"]["rows"] == 400 == rows["fold 0"]["rows"] + rows["fold 1"]["rows"]
    assert rows["constant rate"]["roc_auc"] == metrics.baselines["constant rate"].roc_auc
    assert "gauc" not in found.column_names, "the data names no users"


def test_tables_of_all_kinds_have_the_same_scores(fitted: gatectr.Run) -> None:
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    rows = table(50, seed=1).drop_columns("clicked")
    pq.write_table(rows, "rows.parquet")
    p = fitted.predict(rows)
    assert p.shape == (50,)
    assert ((p > 0) & (p < 1)).all()
    frame: object = rows.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    for same in (frame, pl.from_arrow(rows), "rows.parquet", Path("rows.parquet"), rows.to_pydict()):
        assert np.array_equal(fitted.predict(same), p)
    assert fitted.predict(frame.iloc[::-1]) == pytest.approx(p[::-1], abs=1e-6), "an index is no column"


def test_balanced_scores_are_those_of_equal_classes(fitted: gatectr.Run) -> None:
    rows, link = table(50, seed=1), next(iter(fitted.metrics.links.values()))
    p, q = fitted.predict(rows), fitted.predict(rows, scale="balanced")
    shift = np.log(q / (1 - q)) - np.log(p / (1 - p))
    assert shift == pytest.approx(np.full(50, shift[0]))
    assert shift[0] == pytest.approx(link.log_pos_weight, abs=0.2)  # the mean over both folds


def test_out_of_fold_predictions_have_the_metrics_of_the_run(fitted: gatectr.Run) -> None:
    oof = fitted.oof()
    label, p = (oof[name].to_numpy() for name in ("label", "p"))
    logloss = -np.mean(np.where(label == 1, np.log(p), np.log(1 - p)))
    assert fitted.metrics.overall.logloss == pytest.approx(logloss, abs=1e-6)
    assert sorted(map(int, oof["row_id"].to_pylist())) == list(range(400))
    assert "ROC-AUC" in repr(fitted)


def test_the_same_call_returns_the_finished_run(fitted: gatectr.Run) -> None:
    before = (fitted.folder / "metrics.json").stat().st_mtime_ns
    again = gatectr.fit(table(), SCHEMA, MODEL, out="runs/a", **SETTINGS)
    assert (again.folder / "metrics.json").stat().st_mtime_ns == before
    with pytest.raises(gatectr.InputError, match="another config"):
        gatectr.fit(table(), SCHEMA, MODEL, out="runs/a", trainer={"epochs": 2}, prepare=SETTINGS["prepare"])


def test_without_out_the_folder_lives_as_long_as_the_run() -> None:
    temporary = gatectr.fit(table(), SCHEMA, {"name": "gbdt", "n_trees": 4}, **{"prepare": SETTINGS["prepare"]})
    folder = temporary.folder
    assert (folder / "metrics.json").is_file()
    del temporary
    assert not folder.exists()


def test_runs_are_prepared_once_compared_and_stacked(fitted: gatectr.Run) -> None:
    prepared = gatectr.prepare(table(), {"name": "mine", "schema": SCHEMA, **SETTINGS}, "prepared/mine")
    trees = gatectr.fit(prepared, None, {"name": "gbdt", "n_trees": 6, "min_data_in_leaf": 20}, out="runs/trees")
    crosses = gatectr.fit(prepared, None, MODEL, out="runs/crosses")
    compared = gatectr.compare(trees, crosses, n_replicates=200)
    difference = compared.differences["roc_auc"]
    assert difference.first == pytest.approx(trees.metrics.overall.roc_auc)
    assert difference.low < difference.difference < difference.high
    both = gatectr.ensemble([trees, crosses], "runs/both", method="logit_mean")
    rows = table(20, seed=2)
    logits = [np.log(p / (1 - p)) for p in (run.predict(rows) for run in (trees, crosses))]
    p = both.predict(rows)
    assert np.corrcoef(np.mean(logits, axis=0), np.log(p / (1 - p)))[0, 1] > 0.99
    with pytest.raises(gatectr.InputError, match="no column user"):
        gatectr.compare(trees, crosses, by="user")
    with pytest.raises(gatectr.InputError, match="method must be one of .*, got 'mean'"):
        gatectr.ensemble([trees, crosses], "runs/other", method="mean")  # type: ignore[arg-type]
    with pytest.raises(gatectr.InputError, match="scale must be one of balanced, natural, got 'log'"):
        trees.predict(rows, scale="log")  # type: ignore[arg-type]


def test_side_tables_are_joined_to_tables() -> None:
    ads = {"ad": [f"ad-{number}" for number in range(8)], "size": ["big"] * 3 + ["small"] * 5}
    pq.write_table(pa.table(ads), "ads.parquet")
    side = {"ads": {"file": "ads.parquet", "key": "ad", "columns": ["size"]}}
    schema = {"label": "clicked", "categorical": ["country", "size"], "side_tables": side}
    joined = gatectr.fit(table(), schema, MODEL, out="runs/side", **SETTINGS)
    rows = table(60, seed=1)
    p, columns = joined.predict(rows), rows.to_pydict()
    by_features: dict[tuple[str, bool], set[float]] = {}
    for country, ad, one in zip(columns["country"], columns["ad"], p.round(6), strict=True):
        by_features.setdefault((country, ad in ads["ad"][:3]), set()).add(one)
    assert len(by_features) == 8
    assert all(len(values) == 1 for values in by_features.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"config": {"label": "clicked", "categorical": ["county"]}},
            "'county' is not a column of the data; did you mean 'country'",
        ),
        ({"config": {"lable": "clicked"}}, "schema.lable.*did you mean 'schema.label'"),
        ({"config": None}, "fit needs a config or a schema"),
        ({"model": "dcnv3"}, "unknown model 'dcnv3'; did you mean 'dcnv2'"),
        ({"model": {"embedding_dim": 2}}, "model has no name"),
        ({"trainer": {"epoch": 1}}, "unknown key 'trainer.epoch'; did you mean 'trainer.epochs'"),
        ({"trainers": {"epochs": 1}}, "unknown key 'trainers'; did you mean 'trainer'"),
        ({"trainer": 3}, "trainer must be a mapping"),
        ({"folds": "7"}, "has no fold_7"),
        ({"data": 3}, "rows must be a pandas, polars or Arrow table, .* got int"),
        ({"data": "missing.csv"}, "missing.csv"),
        ({"data": {"clicked": [0, "x"]}}, "mixes types"),
    ],
)
def test_errors_are_one_line_without_internals(change: dict[str, object], message: str) -> None:
    call: dict[str, object] = {"data": table(), "config": SCHEMA, "model": MODEL, "out": "runs/wrong", **SETTINGS}
    with pytest.raises(gatectr.InputError, match=message) as caught:
        gatectr.fit(**(call | change))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert len(caught.traceback) == 2, "the caller and the border"
    assert not Path("runs/wrong").exists()


def test_a_table_that_lacks_a_column_is_named(fitted: gatectr.Run) -> None:
    with pytest.raises(gatectr.InputError, match="^the table has no column 'ad'"):
        fitted.predict(table().drop_columns("ad"))
    with pytest.raises(gatectr.InputError, match="runs is not a finished run: .* such as runs/a$"):
        gatectr.load("runs")
    with pytest.raises(AttributeError, match="no attribute 'fits'"):
        _ = gatectr.fits
