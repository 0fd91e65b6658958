"""Settings of a plan that are checked before its first step, and its last step without the recorded files."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import pipelines.plan.steps
from pipelines.plan.config import FinalStep
from recsys.data.dataset import PreparedDataset
from recsys.data.layout import Manifest
from recsys.system.progress import console
from tests.helpers.commands import Run
from tests.pipelines.test_bad_input import refused

PLAN = Path(__file__).with_name("small_plan.yaml")


def test_best_of_needs_early_stopping(project: Path, run: Run) -> None:
    shutil.copy(PLAN, "plan.yaml")
    outcome = run("plan", "--config", "plan.yaml", "--data", "raw", "--out", "planned", "trainer.early_stopping=null")
    refused(
        outcome, "step 'ablation': without a tuning part, best_of chooses a point by the early-stopping metric: do "
    )
    assert not Path("planned").exists()


@pytest.mark.parametrize("is_there", [True, False])
def test_missing_test_files_are_replaced_by_the_prepared_rows(
    small: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    path = tmp_path / "test.parquet"
    if is_there:
        path.touch()
    manifest = small.manifest.model_copy(update={"test_files": (str(path),)})
    assert isinstance(manifest, Manifest)
    dataset = SimpleNamespace(manifest=manifest, folder=small.folder)
    state = SimpleNamespace(out=tmp_path, plan=SimpleNamespace(scale="balanced"))
    scored: dict[str, Any] = {}
    printed: list[str] = []
    monkeypatch.setattr(pipelines.plan.steps, "members_with_score", lambda final: [])
    monkeypatch.setattr(pipelines.plan.steps, "submit", lambda **arguments: scored.update(arguments))
    monkeypatch.setattr(console, "print", printed.append)
    pipelines.plan.steps.submission_step(cast(Any, state), cast(FinalStep, None), cast(Any, dataset), tmp_path / "run")
    assert scored["test"] == ([path] if is_there else None)
    assert printed == [] if is_there else [f"{path} is missing: the test rows of {small.folder} are scored instead"]
