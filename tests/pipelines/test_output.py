"""Output to terminals that cannot print a name, names that look like markup, and places that cannot be written."""

import io
import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from pipelines.common.cli import run_pipeline
from pipelines.prepare import prepare_command
from recsys.system.progress import console
from tests.helpers.commands import Run
from tests.helpers.small import small_table
from tests.pipelines.test_bad_input import refused

NAMES = {"color": "[/x] 색", "shop": "[bold]:smile:", "click": "[red]"}
GBDT = ("--model", "gbdt", "--folds", "0", "model.n_trees=5", "model.min_data_in_leaf=20")


@pytest.fixture
def markup(project: Path) -> Path:
    """Columns, segments and a data set whose names look like rich's markup."""
    table = small_table()
    names = [NAMES.get(name, name) for name in table.column_names]
    pq.write_table(table.rename_columns(names), project / "raw/train.parquet")
    config = yaml.safe_load(Path("config.yaml").read_text())
    config["name"] = "[/y] 데이터"
    config["schema"] = {
        "label": NAMES["click"],
        "id": "id",
        "categorical": [NAMES["color"], NAMES["shop"]],
        "numeric": ["x_1"],
        "segments": {"[dim]": {"kind": "value", "column": NAMES["color"]}},
    }
    Path("config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    return project


def test_names_are_printed_as_they_are(markup: Path, run: Run) -> None:
    prepared = run("prepare", "--config", "config.yaml", "--train", "raw", "--out", "[p]")
    assert prepared.code == 0, prepared.err
    assert "[/y] 데이터: 2,000 rows in [p]" in prepared.out
    assert "[bold]:smile:" in prepared.out
    found = run("rank", "--config", "config.yaml", "--data", "[p]", "--out", "[/a]", *GBDT)
    assert found.code == 0, found.err
    assert "gbdt on [/y] 데이터" in found.out
    assert "run folder: [/a]" in found.out
    assert run("compare", "[/a]", "[/a]", "--replicates", "100").code == 0


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_that_cannot_print_a_name(markup: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    written, errors = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(stream, encoding=encoding, errors="strict") for stream in (written, errors))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    prepare = ["prepare", "--config", "config.yaml", "--train", "raw"]
    for arguments, code in (((*prepare, "--out", "p"), 0), ((*prepare, "schema.label=없음", "--out", "q"), 2)):
        monkeypatch.setattr(sys, "argv", list(arguments))
        with pytest.raises(SystemExit) as stopped:
            run_pipeline(prepare_command)
        assert (stopped.value.code or 0) == code
    out.flush()
    err.flush()
    printed, error = written.getvalue(), errors.getvalue()
    assert rb"[/y] \ub370\uc774\ud130: 2,000 rows" in printed
    assert rb"'\uc5c6\uc74c'" in error
    assert error.count(b"\n") == 1


def test_the_console_interprets_no_user_text() -> None:
    with console.capture() as captured:
        console.print("[/x] [bold]a[/bold] :smile:")
    assert captured.get() == "[/x] [bold]a[/bold] :smile:\n"


def test_an_argument_that_is_not_utf8(project: Path, run: Run) -> None:
    refused(run("rank", "--config", "config.yaml", "--data", "raw", "--out", "a\udcff"), "is not UTF-8 text: rename")


def test_places_that_cannot_be_written(project: Path, run: Run) -> None:
    rank = ("rank", "--config", "config.yaml", "--data", "raw", *GBDT)
    assert run(*rank, "--out", "a").code == 0
    Path("file").write_text("")
    for out in ("", "/", "new/.."):
        refused(run(*rank, "--out", out), "is not the name of a new folder: choose another --out")
    compare = ("compare", "a", "a", "--replicates", "100", "--out")
    refused(run(*compare, "raw"), "--out raw is a folder: pass the path of a file")
    refused(run(*compare, "file/x.json"), "file cannot be created")
    assert run(*compare, "new/x.json").code == 0
    refused(run("submit", "--run", "a", "--test", "raw", "--out", "file/s.csv"), "file cannot be created")
    sweep = ("sweep", "--config", "config.yaml", "--data", "raw", *GBDT[:4], "model.n_trees=2,3", "--out")
    for out in ("raw", "file", "a"):
        refused(run(*sweep, out), "exists and is not this sweep: choose another --out")


def test_runs_of_the_same_name_are_not_listed_twice(project: Path, run: Run) -> None:
    refused(run("compare", "a", "x/b", "y/b"), "two runs have the same name")


def test_the_toss_score_is_shown_where_a_config_names_it(project: Path, run: Run) -> None:
    rank = ("rank", "--config", "config.yaml", "--data", "raw", *GBDT, "trainer.early_stopping.weights={logloss: -1}")
    outputs = [run(*rank, "--out", "a"), run(*rank, "--out", "b", "evaluation.metric=toss_score")]
    compare = ("compare", "--replicates", "100")
    outputs += [run(*compare, "a", "a"), run(*compare, "a", "b")]
    for outcome, is_shown in zip(outputs, (False, True, False, True), strict=True):
        assert outcome.code == 0, outcome.err
        assert ("Toss score" in outcome.out) == is_shown
        assert "ROC-AUC" in outcome.out
    metrics = [json.loads(Path(name, "metrics.json").read_text()) for name in ("a", "b")]
    assert [found["named_metrics"] for found in metrics] == [["logloss"], ["toss_score", "logloss"]]
    assert metrics[0]["overall"] == metrics[1]["overall"]
    assert metrics[0]["overall"]["toss_score"] is not None
    # the section does not change the training: the same run is found again
    assert run(*rank, "--out", "a", "evaluation.metric=ap").code == 0
    refused(
        run(*rank, "--out", "c", "evaluation.metric=auc"),
        "evaluation.metric: Input should be 'logloss', 'ne', 'roc_auc'",
    )
