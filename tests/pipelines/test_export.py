import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from serving.runtime.bundle import Bundle
from tests.helpers.commands import Run

RANK = ("rank", "--config", "config.yaml", "--data", "raw", "--model", "gbdt", "--folds", "0", "--out", "a")


def test_a_run_is_exported_once(project: Path, run: Run) -> None:
    assert run(*RANK, "model.n_trees=5").code == 0
    outcome = run("export", "--run", "a", "--out", "bundles/a", "--scale", "natural")
    assert outcome.code == 0, outcome.err
    assert "scores differ from the run by at most" in outcome.out
    bundle = Bundle.load(Path("bundles/a"))
    card = bundle.card()
    assert card["models"]["a"]["model"]["name"] == "gbdt"
    assert card["models"]["a"]["splits"] == ["fold_0"]
    ap = card["metrics"]["intervals"]["ap"]
    assert ap["value"] == pytest.approx(card["metrics"]["overall"]["ap"])
    assert ap["low"] < ap["value"] < ap["high"]
    rows = pq.read_table("raw/train.parquet").slice(0, 50)
    scores = bundle.score(rows)
    assert np.all((scores.p > 0) & (scores.p < 1))
    assert np.all(scores.q > scores.p)  # clicks are rarer than the rest
    outcome = run("export", "--run", "a", "--out", "bundles/a")
    assert outcome.code == 2
    assert "bundles/a exists" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("export", "--run", "raw", "--out", "b"), "raw is not a finished run"),
        (("serve", "raw"), "raw is not a bundle: write one with python -m pipelines.export"),
        (("serve", "raw", "--port", "70000"), "port"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments: tuple[str, ...], message: str, project: Path, run: Run) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert not Path("b").exists()
    assert not Path("b.partial").exists()


def test_serving_without_its_packages_names_their_installation(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "serving.server.run", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)  # as if it were not installed
    outcome = run("serve", "raw")
    assert outcome.code == 2
    assert outcome.err == "error: uvicorn is not installed, which servers need: pip install 'gatectr[serve]'\n"
