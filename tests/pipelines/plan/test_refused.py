"""Plans that are refused before their first step, and overrides of a plan."""

from pathlib import Path

import pytest
import yaml

from pipelines.plan.config import load_plan
from pipelines.plan.state import for_model
from recsys.errors import InputError
from tests.helpers.commands import Run
from tests.helpers.plan_project import ARGUMENTS, PLAN, make_project

STEPS = PLAN["steps"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder without a plan folder."""
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": "tree"}, "reference: no step has the name 'tree'"),
        ({"steps": STEPS[1::-1]}, "step 1 comes after step 2"),
        ({"steps": [*STEPS[:4], STEPS[6]]}, "gate A: no earlier step has the name 'gbdt'"),
        ({"gates": {**PLAN["gates"], "A": {"kind": "comparison"}}}, "'gates.A.candidate' is missing"),
        (
            {"gates": {**PLAN["gates"], "A": {**PLAN["gates"]["A"], "retry": "other"}}},
            "gate A: retry: no step has the name 'other'",
        ),
        (
            {"gates": {**PLAN["gates"], "D": {**PLAN["gates"]["D"], "segmentation": "usr"}}},
            "'usr' is not in schema.segments",
        ),
        ({"stesp": []}, "unknown key 'stesp'; did you mean 'steps'"),
    ],
)
def test_invalid_plans_are_refused(project: Path, run: Run, change: dict[str, object], message: str) -> None:
    Path("plan.yaml").write_text(yaml.safe_dump(PLAN | change, sort_keys=False))
    outcome = run(*ARGUMENTS, "--out", "out")
    assert outcome.code == 2
    assert message in outcome.err
    assert not Path("out").exists()


def test_plan_overrides(project: Path, run: Run) -> None:
    assert "unknown key 'trainer.epoch'" in run(*ARGUMENTS, "--out", "out", "trainer.epoch=1").err
    assert "must be KEY=VALUE" in run(*ARGUMENTS, "--out", "out", "trainer").err
    found = load_plan(Path("plan.yaml"), ("batch_size=64", "trainer.batch_size=50"))
    assert found.batch_size == 64
    assert found.set == ("trainer.epochs=2", "trainer.precision=fp32", "trainer.batch_size=50")
    assert for_model("gbdt", found.set) == ()
    Path("out").mkdir()
    Path("out/notes.txt").touch()
    assert "is not a plan folder" in run(*ARGUMENTS, "--out", "out").err
    with pytest.raises(InputError, match="is not a file"):
        load_plan(Path("none.yaml"), ())
