import base64
import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import pipelines.plan.steps
from pipelines.plan.command import plan
from pipelines.plan.config import load_plan
from pipelines.plan.later_ensemble import WindowStack, stack_windows
from pipelines.plan.state import PlanState
from recsys.evaluation.shown import format_metric
from recsys.runs.predictions import join_predictions, read_predictions
from serving.runtime.bundle import Bundle
from tests.helpers.commands import Run
from tests.helpers.plan_project import ARGUMENTS, make_project

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with a finished plan folder `whole`."""
    folder = tmp_path_factory.mktemp("plan")
    make_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plan(config=Path("plan.yaml"), data=Path("raw"), out=Path("whole"))
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder without a plan folder."""
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def in_finished(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(finished)
    return finished / "whole"


def read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.suffix == ".json" else yaml.safe_load(path.read_text())


def test_plan_folder_has_all_outputs(in_finished: Path) -> None:
    names = {path.name for path in in_finished.iterdir() if not path.name.startswith("9-final-")}
    assert names == {
        *("plan.yaml", "plan.json", "report.html", "submission.csv", "submission.json", "DONE", "gates", "plots"),
        "bundle",
        *("1-data", "2-dcnv2", "2-dcnv2-holdout", "2-dcnv2-forward", "2-dcnv2-tuning", "2-focal-tuning", "3-gbdt"),
        *("3-gbdt-forward", "3-ablation", "3-dcnv2-features", "3-dcnv2-features-forward", "6-din", "6-din-forward"),
        *("7-retrieval", "7-dcnv2-retrieval-holdout", "8-ensemble", "8-ensemble-forward", "9-final"),
    }
    with (in_finished / "submission.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"t-{i}" for i in range(500)]
    assert all(0 < float(row["click"]) < 1 for row in rows)


def test_the_bundle_scores_like_the_submission(in_finished: Path) -> None:
    bundle, rows = Bundle.load(in_finished / "bundle"), pq.read_table("raw/test.parquet")
    with (in_finished / "submission.csv").open() as file:
        submitted = {row["id"]: float(row["click"]) for row in csv.DictReader(file)}
    expected = [submitted[name] for name in rows["id"].to_pylist()]
    assert bundle.score(rows).p == pytest.approx(expected, abs=1e-5)
    assert set(bundle.card()["gates"]) == {
        path.stem.partition("-again")[0] for path in (in_finished / "gates").iterdir()
    }


def test_the_final_fit_has_the_mean_share_of_the_folds(in_finished: Path) -> None:
    """It monitors nothing by which a share of the linear part could be chosen."""
    final = read(next(in_finished.glob("9-final-dcnv2*/config.yaml")))["trainer"]
    fits = read(in_finished / "2-dcnv2/metrics.json")["train"]["fits"].values()
    shares = [fit["epochs"][fit["best_epoch"]]["linear_share"] for fit in fits]
    assert 0 < final["linear_share"] == pytest.approx(sum(shares) / len(shares), abs=1e-3)


def test_limits_are_those_of_the_bundle(in_finished: Path) -> None:
    latency, memory = (read(in_finished / f"gates/{name}.json")["checks"][0] for name in ("latency", "memory"))
    assert "candidates to the bundle" in latency["what"]
    assert memory["what"] == "peak memory of bundle, ram, GiB"
    assert 0 < latency["value"] < 10000
    assert 0.01 < memory["value"] < 1  # torch alone takes more than half of that
    assert not list(in_finished.glob("*.bundle"))


def test_gate_outcomes_apply_to_later_steps(in_finished: Path) -> None:
    outcomes = {path.stem: read(path)["outcome"] for path in (in_finished / "gates").iterdir()}
    assert outcomes["loss"] == "adopt"
    assert read(in_finished / "6-din/config.yaml")["trainer"]["loss"]["name"] == "focal"
    assert read(in_finished / "2-dcnv2/config.yaml")["trainer"]["loss"]["name"] == "log_loss"
    assert (outcomes["A"], outcomes["A-again"]) == ("retry", "reject")
    features = {run: read(in_finished / f"{run}/config.yaml")["features"] for run in ("2-dcnv2", "3-dcnv2-features")}
    assert features["2-dcnv2"]["leave_out"] == ["cross_*"]
    assert features["3-dcnv2-features"] == {"leave_out": [], "min_count": 5, "min_count_by_column": {}}
    assert outcomes["distribution"] == "adopt"
    # the best run is never a rejected model, but the ensemble has rejected members
    state = PlanState(load_plan(Path("plan.yaml"), ()), in_finished)
    assert {"dcnv2", "dcnv2-features"} <= state.rejected()
    assert set(read(in_finished / "8-ensemble/metrics.json")["members"]) >= {"2-dcnv2", "3-dcnv2-features"}
    final = read(in_finished / "9-final/metrics.json")
    assert final["best"] not in state.rejected()
    for member in final["member_folders"].values():
        trained = read(Path(member) / "config.yaml")
        assert trained["run"]["splits"] == ["full"]
        assert trained["trainer"]["early_stopping"] is None


def test_retrieval_gate_agrees_with_the_metrics(in_finished: Path) -> None:
    towers = read(in_finished / "7-retrieval/metrics.json")
    verdict = read(in_finished / "gates/E.json")
    recall, *gains = verdict["checks"]
    assert recall["value"] == pytest.approx(towers["two_tower"]["recall@10"] - towers["popularity"]["recall@10"])
    without, scored = (
        read(in_finished / f"{run}-holdout/metrics.json")["overall"] for run in ("2-dcnv2", "7-dcnv2-retrieval")
    )
    assert gains[0]["value"] == pytest.approx(scored["ap"] - without["ap"])
    assert without["n_rows"] == scored["n_rows"]
    assert "recall@10" in towers["reranked"]


def test_sweep_point_is_chosen_on_rows_that_are_not_reported(in_finished: Path) -> None:
    state = PlanState(load_plan(Path("plan.yaml"), ()), in_finished)
    swept, found = read(in_finished / "3-ablation/sweep.json"), {}
    chosen_on = set()
    for trial in swept["trials"]:
        folder = Path(trial["run"])
        assert read(folder / "config.yaml")["run"]["splits"] == ["tuning"]
        chosen_on |= set(read_predictions(folder).row_id.to_pylist())
        found[trial["point"]["model.cross_depth"]] = -read(folder / "metrics.json")["overall"][swept["metric"]]
    assert swept["metric"] == "logloss"
    best = swept["simplest"]["run"].removeprefix("cross_depth=")
    assert found[best] >= max(found.values()) - swept["simplest"]["standard_error"]
    for run in ("3-dcnv2-features", "3-dcnv2-features-forward", "8-ensemble-forward"):
        assert not chosen_on & set(read_predictions(in_finished / run).row_id.to_pylist())
    assert state.best_point("ablation") == (f"model.cross_depth={best}",)
    assert read(in_finished / "3-dcnv2-features/config.yaml")["model"]["cross_depth"] == int(best)


def test_rows_of_a_window_and_later_ones_are_not_used_to_fit_their_stack(in_finished: Path) -> None:
    """Other labels of out-of-fold rows from window 2 on change neither stack; those of window 1 change stack 2."""
    folds, forward = (
        join_predictions([read_predictions(in_finished / f"{run}{suffix}") for run in ("2-dcnv2", "3-gbdt")])
        for suffix in ("", "-forward")
    )
    assert set(forward[0].fold) == {"forward_1", "forward_2"}

    of_trees = folds[1].predictions.logits.natural
    by_trees = (of_trees > np.median(of_trees)).astype(folds[0].label.dtype)  # the crosses have all weight as it is

    def stacks(changed_window: str | None) -> list[WindowStack]:
        ids = forward[0].row_id.to_numpy(zero_copy_only=False)[forward[0].fold == changed_window]
        is_changed = np.isin(folds[0].row_id.to_pylist(), ids)
        changed = [
            replace(run, predictions=replace(run.predictions, label=np.where(is_changed, by_trees, run.label)))
            for run in folds
        ]
        assert is_changed.any() or changed_window is None
        return stack_windows("logloss", changed, forward).windows

    as_is = stacks(None)
    assert stacks("forward_2") == as_is
    assert stacks("forward_1")[0] == as_is[0]
    assert stacks("forward_1")[1] != as_is[1]


def test_finished_plan_is_not_run_again(in_finished: Path, run: Run) -> None:
    again = run(*ARGUMENTS, "--out", "whole")
    assert again.code == 0, again.err
    assert "epoch 1/" not in again.out
    dry = run(*ARGUMENTS, "--out", "whole", "--dry-run").out
    assert "yes: not" not in dry
    assert "no: decided (reject)" in dry


def test_submit_of_a_plan_repeats_its_submission(in_finished: Path, run: Run) -> None:
    for name, test in (("files.csv", ["--test", "raw/test.parquet"]), ("prepared.csv", [])):
        scored = run("submit", "--run", "whole", *test, "--out", name)
        assert scored.code == 0, scored.err
        assert Path(name).read_bytes() == (in_finished / "submission.csv").read_bytes()


def test_report_is_self_contained(in_finished: Path) -> None:
    page = (in_finished / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert len(pictures) >= 8
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    for title in (
        "Summary",
        "Gates",
        "Models",
        "Curves",
        "Segments",
        "Sweeps",
        "Retrieval",
        "Ensemble",
        "Time and memory",
        "Submission",
    ):
        assert f"<h2>{title}</h2>" in page
    final, plan_state = read(in_finished / "9-final/metrics.json"), read(in_finished / "plan.json")
    top = page[page.index('id="summary"') : page.index('id="gates"')]
    assert f'<td class="adopt">{final["best"]}</td>' in top
    for outcome in ("adopt", "reject"):
        names = [name for name, of_gate in plan_state["gates"].items() if of_gate and of_gate[-1]["outcome"] == outcome]
        assert not names or f'<td class=" text">{", ".join(names)}</td>' in top
    assert "MiB" in top
    ensemble = read(in_finished / "8-ensemble/metrics.json")
    sd = ensemble["spread"]["toss_score"]["sd"]
    assert f'<td class="">{format_metric(ensemble["overall"]["toss_score"], sd)}</td>' in page


@pytest.mark.slow
def test_interrupted_plan_has_the_same_result(in_finished: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupts the plan before a fit, a verdict, an ensemble and the submission."""
    for name, place in (("execute", 3), ("evaluate_gate", 2), ("build_ensemble", 1), ("submit", 1)):
        original, calls = getattr(pipelines.plan.steps, name), []

        def cut(*args: object, _original=original, _calls=calls, _place=place, **kwargs: object):  # type: ignore[no-untyped-def]
            _calls.append(1)
            if len(_calls) == _place:
                raise KeyboardInterrupt
            return _original(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(pipelines.plan.steps, name, cut)
            assert run(*ARGUMENTS, "--out", "out").code == 130
    assert run(*ARGUMENTS, "--out", "out").code == 0
    assert Path("out/submission.csv").read_bytes() == Path("whole/submission.csv").read_bytes()
    for path in sorted(Path("whole").glob("*/oof.csv")):
        assert (Path("out") / path.relative_to("whole")).read_bytes() == path.read_bytes(), path
    for path in sorted(Path("whole/gates").iterdir()):
        if path.stem in ("latency", "memory"):  # measured on this machine
            continue
        assert (Path("out/gates") / path.name).read_bytes() == path.read_bytes()


def test_a_dry_run_trains_nothing(project: Path, run: Run) -> None:
    outcome = run(*ARGUMENTS, "--out", "out", "--dry-run")
    assert outcome.code == 0, outcome.err
    assert not Path("out").exists()
    for text in ("only if gate A requests a retry", "short trial", "the plan takes about", "2 of 2 points"):
        assert text in outcome.out


@pytest.mark.slow
def test_kill_9_at_random_moments(project: Path, run: Run) -> None:
    """Killed five times and started again, the plan gives the same metrics and the same submission."""
    command = [sys.executable, "-m", "pipelines.plan", *ARGUMENTS[1:], "--out"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(project)}
    whole = subprocess.run([*command, "whole"], env=environment, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    rng = np.random.default_rng(0)
    for _ in range(5):
        with subprocess.Popen([*command, "out"], env=environment, stdout=subprocess.DEVNULL) as started:
            try:
                started.wait(timeout=float(rng.uniform(8, 25)))
            except subprocess.TimeoutExpired:
                started.kill()
    ended = subprocess.run([*command, "out"], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert Path("out/submission.csv").read_bytes() == Path("whole/submission.csv").read_bytes()
    for path in sorted(Path("whole").glob("*/oof.csv")):
        assert (Path("out") / path.relative_to("whole")).read_bytes() == path.read_bytes(), path
        overall = [
            json.loads((Path(o) / path.parent.name / "metrics.json").read_text())["overall"] for o in ("whole", "out")
        ]
        assert overall[0] == overall[1]
