"""Losses, metrics and gates of the user's own: they decide where the user names them, and are refused elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from recsys import own_code
from tests.helpers.commands import Run, read_oof
from tests.helpers.own_package import add_package, forget

EXAMPLE = Path(__file__).parents[2] / "docs/examples/my_parts.py"
LOSS, METRIC, GATE = (f"my_package.my_parts:{name}" for name in ("MyLoss", "lift", "no_worse_at_the_top"))
RANK = ("rank", "--model", "dcnv2", "--config", "config.yaml", "--data", "raw", "--folds", "0,1")
TINY = ("trainer.epochs=1", "model.embedding_dim=4")


@pytest.fixture
def package(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the example as my_package/my_parts.py, in a process that has imported nothing of it."""
    return add_package(project, EXAMPLE, "my_parts", monkeypatch)


def own_values(folder: Path) -> dict[str, float]:
    values: dict[str, float] = json.loads((folder / "metrics.json").read_text())["own_metrics"][METRIC]
    return values


def lift_by_hand(label: np.ndarray, p: np.ndarray) -> float:
    top = sorted(range(len(p)), key=lambda row: -p[row])[: round(len(p) / 100)]
    return float(label[top].mean() / label.mean())


def test_a_metric_is_that_of_the_reported_predictions(package: Path, run: Run) -> None:
    trained = run(*RANK, "--out", "out", *TINY, f"evaluation.own_metrics=[{METRIC}]")
    assert trained.code == 0, trained.err
    assert "lift" in trained.out
    rows = read_oof(package / "out")
    label, p = (np.array([float(row[name]) for row in rows]) for name in ("label", "p"))
    values = own_values(package / "out")
    assert values["overall"] == pytest.approx(lift_by_hand(label, p))
    fold = np.array([row["fold"] for row in rows])
    for name in ("0", "1"):
        assert values[name] == pytest.approx(lift_by_hand(label[fold == name], p[fold == name]))


def test_a_loss_without_weights_trains_to_the_base_rate(package: Path, run: Run) -> None:
    trained = run(*RANK, "--out", "out", "trainer.epochs=3", f"trainer.loss.name={LOSS}")
    assert trained.code == 0, trained.err
    metrics = json.loads((package / "out/metrics.json").read_text())
    assert metrics["train"]["fits"]["fold_0"]["link"]["trained_weight"] == 1.0
    overall = metrics["raw"]
    rate = overall["n_positive"] / overall["n_rows"]
    constant = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    assert overall["logloss"] < constant
    default = run(*RANK, "--out", "default", "trainer.epochs=3")
    assert default.code == 0, default.err
    assert json.loads((package / "default/metrics.json").read_text())["raw"]["logloss"] != overall["logloss"]


def test_early_stopping_by_a_metric(package: Path, run: Run) -> None:
    weights = f"trainer.early_stopping.weights={{'{METRIC}': 1}}"
    for model, settings in (("dcnv2", TINY), ("gbdt", ("model.n_trees=20",))):
        stopped = run(*RANK[:2], model, *RANK[3:], "--out", model, *settings, weights)
        assert stopped.code == 0, stopped.err
        assert f"monitored {METRIC}" in stopped.out


def test_what_only_a_folder_names_is_not_imported(package: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    named = (f"trainer.loss.name={LOSS}", f"evaluation.own_metrics=[{METRIC}]")
    first = run(*RANK, "--out", "out", *TINY, *named)
    assert first.code == 0, first.err
    forget(monkeypatch, "my_parts")
    again = ("rank", "--config", "out/config.yaml", "--out", "again")
    refused = run(*again)
    assert refused.code == 2
    assert f"{LOSS} is code that a folder names" in refused.err
    assert f"trainer.loss.name={LOSS}" in refused.err
    assert not (package / "again").exists()
    assert "my_package" not in own_code.importlib.sys.modules
    half = run(*again, named[0])
    assert f"{METRIC} is code that a folder names" in half.err
    repeated = run(*again, *named)
    assert repeated.code == 0, repeated.err
    assert (package / "again/oof.csv").read_bytes() == (package / "out/oof.csv").read_bytes()
    forget(monkeypatch, "my_parts")  # the link from logits to probabilities is in metrics.json: scoring needs no loss
    scored = run("submit", "--run", "out", "--test", "raw/train.parquet", "--out", "scores.csv")
    assert scored.code == 0, scored.err


@pytest.mark.slow
def test_fits_at_once_import_the_loss_in_their_processes(package: Path, run: Run) -> None:
    at_once = run(*RANK, "--out", "out", "trainer.parallel_fits=2", *TINY, f"trainer.loss.name={LOSS}")
    assert at_once.code == 0, at_once.err


def test_a_gate_adopts_or_rejects(package: Path, run: Run) -> None:
    rank = {"step": 2, "do": "rank", "model": "dcnv2", "evaluate_on": ["folds"]}
    steps = [
        {"step": 1, "do": "prepare"},
        rank | {"name": "whole", "set": ["trainer.epochs=3"]},
        rank
        | {"name": "constant", "set": ["trainer.epochs=1", "trainer.learning_rate=1e-9", "model.linear_part=false"]},
        {"step": 3, "do": "gate", "gate": "better"},
        {"step": 3, "do": "gate", "gate": "worse"},
        {"step": 9, "do": "final", "name": "final", "best_of": ["whole", "constant"], "evaluate_on": "folds"},
    ]
    gate = {"kind": "own", "function": GATE, "evaluate_on": "folds"}
    gates = {"better": gate | {"runs": ["whole", "constant"]}, "worse": gate | {"runs": ["constant", "whole"]}}
    plan = {"name": "small", "config": "config.yaml", "reference": "whole", "steps": steps, "gates": gates}
    (package / "plan.yaml").write_text(yaml.safe_dump(plan))
    planned = run("plan", "--config", "plan.yaml", "--data", "raw", "--out", "planned")
    assert planned.code == 0, planned.err
    verdicts = {name: json.loads((package / f"planned/gates/{name}.json").read_text()) for name in gates}
    assert (verdicts["better"]["outcome"], verdicts["worse"]["outcome"]) == ("adopt", "reject")
    assert "lift of the top percent" in (package / "planned/report.html").read_text()

    plan["gates"] = {
        name: gate | {"runs": ["whole", "constant"], "function": "my_package.my_parts:N_TOP"} for name in gates
    }
    (package / "plan.yaml").write_text(yaml.safe_dump(plan))
    refused = run("plan", "--config", "plan.yaml", "--data", "raw", "--out", "refused")
    assert refused.code == 2
    assert "N_TOP is not a function" in refused.err


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trainer.loss.name=focul", "unknown loss 'focul'; did you mean 'focal'"),
        ("trainer.loss.name=my_package.my_parts:MyLos", "has no 'MyLos'; did you mean 'MyLoss'"),
        (f"trainer.loss.name={METRIC}", "is not a class of torch.nn.Module"),
        ("trainer.loss.name=torch.nn:Identity", "torch.nn:Identity needs pos_weight"),
        ("evaluation.own_metrics=[lift]", "'lift' must be the path of a function"),
        ("evaluation.own_metrics=[nowhere:lift]", "no module 'nowhere'"),
        ("evaluation.own_metrics=[my_package.my_parts:N_TOP]", "is not a function"),
        ("trainer.early_stopping.weights={lift: 1}", "'lift' is not a metric"),
    ],
)
def test_wrong_names_are_refused_before_training(package: Path, run: Run, setting: str, message: str) -> None:
    refused = run(*RANK, "--out", "out", *TINY, setting)
    assert refused.code == 2
    assert message in refused.err
    assert not (package / "out").exists()


def test_a_metric_must_return_a_number(package: Path, run: Run) -> None:
    (package / "my_package/texts.py").write_text("def text(label, p, weight):\n    return 'high'\n")
    refused = run(*RANK, "--out", "out", *TINY, "evaluation.own_metrics=[my_package.texts:text]")
    assert refused.code == 2
    assert "must return a number" in refused.err
