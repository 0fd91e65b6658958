"""The installed wheel works in any folder: configs are package data, and the command runs the pipelines."""

import json
from pathlib import Path

import pytest

from pipelines.common.cli import CONFIGS, find_config
from pipelines.common.layers import load_sections
from pipelines.plan.config import load_plan
from recsys.errors import InputError
from tests.gatectr.conftest import Installed

TINY = (
    *("generator.n_rows=3000", "prepare.n_folds=2", "model.n_trees=4"),
    *("trainer.trees_per_epoch=2", "trainer.early_stopping=null"),
)


def test_the_demo_runs_outside_the_checkout(installed: Installed, tmp_path: Path) -> None:
    rank = ("rank", "--model", "gbdt", "--out", "runs/demo", "--json", *TINY)
    done = installed("gatectr", *rank, folder=tmp_path)
    metrics = json.loads(done.stdout)
    assert metrics["overall"]["n_rows"] == 3000
    assert "generating 3,000 rows once" in done.stderr
    assert metrics == json.loads((tmp_path / "runs/demo/metrics.json").read_text())
    code = "import recsys, pipelines.common.cli as c; print(recsys.__file__, c.TOSS_CONFIG, c.TOSS_CONFIG.is_file())"
    printed = installed("python", "-c", code, folder=tmp_path).stdout.split()
    assert all("env" in path for path in printed[:2])
    assert printed[2] == "True"


def test_modules_run_as_from_the_checkout(installed: Installed, tmp_path: Path) -> None:
    first = installed("python", "-m", "pipelines.rank", "--model", "gbdt", "--out", "a", *TINY, folder=tmp_path)
    second = installed("gatectr", "rank", "--model", "gbdt", "--out", "a", *TINY, folder=tmp_path)
    assert "run folder: a" in first.stdout
    assert second.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    assert "python -m pipelines.rank --model gbdt" in (tmp_path / "a/config.yaml").read_text()


@pytest.mark.parametrize("name", ["toss", "toss.yaml", "configs/toss.yaml"])
def test_a_config_of_the_package_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(Path(name)) == CONFIGS / "toss.yaml"
    mine = Path(name).with_suffix(".yaml")
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("name: mine\n")
    assert find_config(mine) == mine, "a file in the working folder comes first"


@pytest.mark.parametrize("name", ["tosss", "elsewhere/toss.yaml", "/configs/toss.yaml"])
def test_other_names_stay_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(Path(name)) == Path(name)


def test_help_and_errors(installed: Installed, tmp_path: Path) -> None:
    help_text = installed("gatectr", "--help", folder=tmp_path).stdout
    assert {"prepare", "rank", "plan"} <= set(help_text.split())
    assert "torch 2." in installed("gatectr", "version", folder=tmp_path).stdout
    unknown = installed("gatectr", "rnak", folder=tmp_path, expected=2)
    assert unknown.stderr == "error: unknown command 'rnak'; did you mean 'rank'?: gatectr --help lists all\n"


def test_bases_and_configs_of_the_package_are_found_from_a_file_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: configs/frappe.yaml\nname: mine\n")
    assert load_sections(tmp_path / "mine.yaml")["schema"] == load_sections(CONFIGS / "frappe.yaml")["schema"]
    (tmp_path / "plan.yaml").write_text("base: configs/plan_small.yaml\nname: mine\nconfig: configs/frappe.yaml\n")
    plan = load_plan(tmp_path / "plan.yaml", ())
    assert plan.config == str(CONFIGS / "frappe.yaml")
    assert plan.steps == load_plan(CONFIGS / "plan_small.yaml", ()).steps
    (tmp_path / "frappe.yaml").write_text("name: other\n")
    (tmp_path / "beside.yaml").write_text("base: frappe.yaml\n")
    assert load_sections(tmp_path / "beside.yaml") == {"name": "other"}
    (tmp_path / "wrong.yaml").write_text("base: configs/none.yaml\n")
    with pytest.raises(InputError, match="configs/none.yaml is not a file"):
        load_sections(tmp_path / "wrong.yaml")
