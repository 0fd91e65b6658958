import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score

from recsys.evaluation.metrics import weighted_log_loss
from tests.helpers.commands import Run
from tests.helpers.small import small_table

RANK = ("rank", "--config", "config.yaml", "--data", "raw")


@pytest.fixture
def project(project: Path) -> Path:
    """Adds test.parquet, new rows with values unseen in training, and labels.parquet with their labels."""
    table = small_table(700, seed=9)
    shop = np.where(np.arange(700) % 50 == 0, 9999, table["shop"].to_numpy()).astype(np.float32)
    columns = {name: table[name] for name in table.column_names} | {"shop": pa.array(shop)}
    columns |= {"id": pa.array([f"t-{i}" for i in range(700)])}
    whole = pa.table(columns)
    pq.write_table(whole.drop_columns(["click", "day"]), project / "test.parquet")
    pq.write_table(whole.select(["id", "click"]), project / "labels.parquet")
    return project


def read(path: str, score: str = "click") -> dict[str, float]:
    table = pa_csv.read_csv(path, convert_options=pa_csv.ConvertOptions(column_types={"id": pa.string()}))
    return dict(zip(table[table.column_names[0]].to_pylist(), table[score].to_pylist(), strict=True))


def test_scores_of_held_out_rows_equal_their_oof_predictions(project: Path, run: Run) -> None:
    """Scores the training file with the model of fold 0: the held-out rows must get their p of oof.csv."""
    for model in ("dcnv2", "gbdt"):
        assert run(*RANK, "--model", model, "--folds", "0", "--out", model).code == 0
        outcome = run(
            *("submit", "--run", model, "--test", "raw/train.parquet", "--out", f"{model}.csv", "--scale", "natural")
        )
        assert outcome.code == 0, outcome.err
        assert "2,000 rows written" in outcome.out
        found, expected = read(f"{model}.csv"), read(f"{model}/oof.csv", "p")
        assert list(found) == [f"row-{i}" for i in range(2000)]
        assert len(expected) > 500
        assert [found[row] for row in expected] == pytest.approx(list(expected.values()), rel=2e-2)
        ratio = np.log([found[row] / p for row, p in expected.items()])
        assert np.abs(ratio).mean() < 2e-3  # bf16 rounding depends on the batch


def test_an_ensemble_of_fold_models_scores_unseen_rows(project: Path, run: Run) -> None:
    for name, settings in (("a", ["--model", "dcnv2"]), ("b", ["--model", "gbdt"])):
        assert run(*RANK, "--out", name, *settings).code == 0
    assert run("ensemble", "a", "b", "--out", "both", "--replicates", "100").code == 0
    outcome = run(
        "submit",
        "--run",
        "both",
        "--test",
        "test.parquet",
        "--out",
        "s.csv",
        "--labels",
        "labels.parquet",
        "--scale",
        "balanced",
    )
    assert outcome.code == 0, outcome.err
    found = read("s.csv")
    assert list(found) == [f"t-{i}" for i in range(700)]
    q, label = np.array(list(found.values())), pq.read_table("labels.parquet")["click"].to_numpy()
    summary = json.loads(Path("s.json").read_text())
    assert summary["n_rows"] == 700
    assert summary["predictions"]["balanced"]["mean"] == pytest.approx(q.mean())
    metrics = summary["metrics"]["by the labels"]
    assert metrics["ap"] == pytest.approx(average_precision_score(label, q))
    assert metrics["wll"] == pytest.approx(weighted_log_loss(label, np.log(q / (1 - q))), rel=1e-6)
    assert metrics["roc_auc"] > 0.7
    assert summary["metrics"]["estimated by the run"] == json.loads(Path("both/metrics.json").read_text())["overall"]


def test_scores_do_not_depend_on_the_number_of_files(project: Path, run: Run) -> None:
    """Files are scored in parallel and written in order."""
    assert run(*RANK, "--model", "dcnv2", "--folds", "0", "--out", "a", "trainer.precision=fp32").code == 0
    table, pieces = pq.read_table(project / "test.parquet"), []
    for number, start in enumerate(range(0, 700, 60)):
        pq.write_table(table.slice(start, 60), project / f"piece-{number:02}.parquet")
        pieces += ["--test", f"piece-{number:02}.parquet"]
    assert run("submit", "--run", "a", "--test", "test.parquet", "--out", "one.csv").code == 0
    outcome = run("submit", "--run", "a", *pieces, "--out", "many.csv")
    assert outcome.code == 0, outcome.err
    one, many = read("one.csv"), read("many.csv")
    assert list(many) == list(one)
    assert list(many.values()) == pytest.approx(list(one.values()), rel=1e-5)


@pytest.mark.parametrize(("metric", "scale"), [("logloss", "natural"), ("wll", "balanced"), ("toss_score", "balanced")])
def test_the_scale_is_that_of_the_metric_to_choose_by(metric: str, scale: str, project: Path, run: Run) -> None:
    trees = ("--model", "gbdt", "--folds", "0", "model.n_trees=5")
    assert run(*RANK, *trees, "--out", "a", f"evaluation.metric={metric}").code == 0
    assert run("submit", "--run", "a", "--test", "test.parquet", "--out", "s.csv").code == 0
    summary = json.loads(Path("s.json").read_text())
    assert summary["scale"] == scale
    mean = np.mean(list(read("s.csv").values()))
    assert mean == pytest.approx(summary["predictions"][scale]["mean"])
    outcome = run("export", "--run", "a", "--out", "bundles/a")
    assert f"scores at the {scale} scale" in outcome.out


def test_sample_sets_row_order_and_column_names(project: Path, run: Run) -> None:
    assert run(*RANK, "--model", "dcnv2", "--folds", "0", "--out", "a").code == 0
    submit = ("submit", "--run", "a", "--test", "test.parquet")
    assert run(*submit, "--out", "plain.csv").code == 0
    plain = read("plain.csv")
    Path("sample.csv").write_text("id,probability\n" + "".join(f"{name},0\n" for name in reversed(plain)))
    assert run(*submit, "--out", "ordered.csv", "--sample", "sample.csv").code == 0
    ordered = read("ordered.csv", "probability")
    assert list(ordered) == list(reversed(plain))
    assert ordered == plain
    for text, error in (
        ("id,probability\nt-1,0\n", "has 1 ids, expected one for each of 700 rows"),
        ("id,probability\nz,0\n", "id z is not among the rows"),
        ("id,p\nt-1,0\nt-1,0\n", "repeats an id"),
        ("id\nt-1\n", "has 1 columns"),
    ):
        Path("sample.csv").write_text(text)
        refused = run(*submit, "--out", "wrong.csv", "--sample", "sample.csv")
        assert refused.code == 2
        assert error in refused.err
        assert not Path("wrong.csv").exists()


def test_invalid_test_files_are_refused(project: Path, run: Run) -> None:
    assert run(*RANK, "--model", "dcnv2", "--folds", "0", "--out", "a").code == 0
    table = pq.read_table("test.parquet")
    pq.write_table(table.drop_columns(["color"]), "no-color.parquet")
    pq.write_table(pa.concat_tables([table, table.slice(0, 3)]), "twice.parquet")
    x_1 = table.column_names.index("x_1")
    pq.write_table(table.set_column(x_1, "x_1", pa.array(["a"] * 700)), "text.parquet")
    for test, error in (
        ("no-color.parquet", "has no column 'color'"),
        ("twice.parquet", "3 rows share their id"),
        ("text.parquet", "column 'x_1' is string, which cannot be numeric"),
        ("absent.parquet", "does not exist"),
    ):
        refused = run("submit", "--run", "a", "--test", test, "--out", "s.csv")
        assert refused.code == 2, test
        assert error in refused.err
    assert "not a finished run" in run("submit", "--run", "b", "--test", "test.parquet", "--out", "s.csv").err
    pq.write_table(pa.table({"id": ["x"], "click": [1]}), "labels.parquet")
    refused = run("submit", "--run", "a", "--test", "test.parquet", "--out", "s.csv", "--labels", "labels.parquet")
    assert "does not have exactly one row for each of the 700" in refused.err
    assert not Path("s.csv").exists()


def test_prepared_test_rows_score_like_their_file(project: Path, run: Run) -> None:
    prepare = ("prepare", "--config", "config.yaml", "--train", "raw/train.parquet", "--test", "test.parquet")
    assert run(*prepare, "--out", "prepared/both").code == 0
    for model in ("dcnv2", "gbdt"):
        here = ("rank", "--config", "config.yaml", "--data", "prepared/both", "--model", model, "--folds", "0")
        assert run(*here, "--out", model).code == 0
        assert run("submit", "--run", model, "--test", "test.parquet", "--out", f"{model}-file.csv").code == 0
        outcome = run("submit", "--run", model, "--out", f"{model}.csv", "--labels", "labels.parquet")
        assert outcome.code == 0, outcome.err
        assert read(f"{model}.csv") == read(f"{model}-file.csv")
        assert "by the labels" in outcome.out
    assert run(*RANK, "--model", "gbdt", "--folds", "0", "--out", "untested").code == 0
    refused = run("submit", "--run", "untested", "--out", "s.csv")
    assert refused.code == 2
    assert "has no test rows: pass the parquet files to score with --test" in refused.err
