"""Plans on data without days, sequences, a target item and segments: what cannot run is not applicable."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pipelines.plan.applicable import find_not_applicable
from pipelines.plan.command import choose_plan
from pipelines.plan.config import load_plan
from pipelines.plan.rows import MissingRows
from pipelines.plan.state import PlanState
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from tests.helpers.commands import Run
from tests.helpers.own_data import write_own_data

SMALL_PLAN = Path(__file__).parent / "small_plan.yaml"
CONFIGS = Path(__file__).parents[2] / "configs"
NO_TOWERS = "the schema has no target_item and no towers"
NO_DIN = "the schema has no sequences and no target_item"


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> Path:
    monkeypatch.chdir(tmp_path)
    write_own_data(tmp_path)
    assert run("prepare", "--config", "mine.yaml", "--train", "train.csv", "--test", "test.csv").code == 0
    return Path("prepared/mine")


@pytest.mark.slow
def test_a_plan_of_categorical_columns_runs_from_end_to_end(prepared: Path, run: Run) -> None:
    plan = {"base": str(SMALL_PLAN), "config": "mine.yaml", "set": ["trainer.epochs=1"]}
    Path("plan.yaml").write_text(yaml.safe_dump(plan))
    command = ("plan", "--config", "plan.yaml", "--data", "prepared/mine", "--out", "out")
    dry = run(*command, "--dry-run")
    assert dry.code == 0, dry.err
    assert f"not applicable: {NO_DIN}" in dry.out
    assert not Path("out").exists()

    outcome = run(*command)
    assert outcome.code == 0, outcome.err
    assert f"step din: not applicable: {NO_DIN}" in outcome.out
    names = {path.name for path in Path("out").iterdir() if not path.name.startswith("9-final-")}
    assert names == {
        *("plan.yaml", "plan.json", "report.html", "submission.csv", "submission.json", "DONE", "gates", "plots"),
        *("1-data", "2-dcnv2", "2-focal", "3-gbdt", "3-ablation", "3-dcnv2-features", "8-ensemble", "9-final"),
        "bundle",
    }
    assert set(json.loads(Path("out/8-ensemble/metrics.json").read_text())["members"]) == {
        *("3-gbdt", "2-dcnv2", "3-dcnv2-features"),
    }
    assert {path.stem for path in Path("out/gates").iterdir()} >= {"loss", "A", "calibration", "distribution"}
    assert len(Path("out/submission.csv").read_text().splitlines()) == 61
    page = Path("out/report.html").read_text()
    assert "<h2>Not applicable</h2>" in page
    for name, reason in (("din", NO_DIN), ("gate E", NO_TOWERS), ("gate D", NO_DIN)):
        assert f"<td>{name}</td>" in page or f">{name}<" in page
        assert reason in page
    assert "the schema has no day" in page
    assert "the data has no tuning part: figures that depend on a choice say so" in page
    assert "chosen on reported rows: sweep ablation, gate loss" in page
    assert "dcnv2 chosen on reported rows" not in outcome.out  # its settings are no choice
    assert "dcnv2-features chosen on reported rows: sweep ablation, gate loss" in outcome.out
    again = run(*command)
    assert again.code == 0, again.err


def test_what_the_plan_of_the_product_cannot_run(prepared: Path) -> None:
    state = PlanState(choose_plan(CONFIGS / "plan.yaml", prepared, ("config=null",)), Path("out"))
    assert state.config == prepared.resolve() / "config.yaml"
    found = find_not_applicable(state, PreparedDataset.open(prepared))
    assert found.missing == MissingRows(
        "the schema has no day", "the data has no forward windows", "the data has no tuning part"
    )
    assert found.steps == {
        "gbdt-encoded": "the schema has no encodings",
        "din": NO_DIN,
        "retrieval": NO_TOWERS,
        "ft_transformer-retrieval": NO_TOWERS,
    }
    assert found.gates == {"D": NO_DIN, "E": NO_TOWERS}
    ranks = [step for step in state.plan.steps if getattr(step, "name", "") == "gbdt"]
    assert [rows for rows, _ in replace(state, not_applicable=found).fits(ranks[0])] == ["folds"]  # type: ignore[arg-type]


def test_what_depends_on_a_step_that_cannot_run(prepared: Path) -> None:
    din = {"step": 2, "do": "rank", "name": "din", "model": "din"}
    other = {"step": 2, "do": "rank", "name": "dcnv2", "model": "dcnv2"}
    retry = {"step": 3, "do": "rank", "name": "again", "model": "gbdt"}
    last_day = {"step": 3, "do": "rank", "name": "last", "model": "gbdt", "evaluate_on": ["holdout"]}
    comparison = {
        "kind": "comparison",
        "candidate": "dcnv2",
        "baselines": ["dcnv2"],
        "any_of": [{"metric": "ap", "gain": 0}],
    }
    plan = {
        "name": "p",
        "config": "mine.yaml",
        "reference": "dcnv2",
        "steps": [
            *(din, other),
            *({"step": 2, "do": "gate", "gate": name} for name in ("beaten", "by", "segments")),
            *(retry, last_day),
            {"step": 4, "do": "ensemble", "name": "both", "members": ["din", "dcnv2"]},
            {"step": 5, "do": "final", "name": "final", "best_of": ["din", "both"]},
        ],
        "gates": {
            "beaten": comparison | {"candidate": "din", "baselines": ["dcnv2"], "retry": "again"},
            "by": comparison | {"candidate": "dcnv2", "baselines": ["din"]},
            "segments": {**comparison, "kind": "segments", "segmentation": "user"},
        },
    }
    Path("plan.yaml").write_text(yaml.safe_dump(plan))
    found = find_not_applicable(
        PlanState(load_plan(Path("plan.yaml"), ()), Path("out")), PreparedDataset.open(prepared)
    )
    assert found.steps == {
        "din": NO_DIN,
        "again": "gate beaten is not applicable",
        "last": "the schema has no day",
        "both": "it needs two members, and only 1 can run",
        "final": NO_DIN,
    }
    assert found.gates == {"beaten": NO_DIN, "by": NO_DIN, "segments": "schema.segments has no 'user'"}


def test_the_config_of_a_plan(prepared: Path) -> None:
    Path("plan.yaml").write_text(yaml.safe_dump({"base": str(SMALL_PLAN), "config": None}))
    assert choose_plan(Path("plan.yaml"), prepared, ()).config == str(prepared.resolve() / "config.yaml")
    with pytest.raises(InputError, match="plan.yaml does not set config: set it to the YAML file of the data"):
        choose_plan(Path("plan.yaml"), None, ())
    with pytest.raises(InputError, match="plan.yaml does not set config"):
        choose_plan(Path("plan.yaml"), Path(), ())
    assert choose_plan(None, None, ()).config == str(CONFIGS / "toss_encoded.yaml")
    named = choose_plan(None, prepared, (f"config={Path('mine.yaml').resolve()}",)).config
    assert named == str(Path("mine.yaml").resolve())
