"""Which rows `auto` and `tuning` stand for, and runs that are read on rows that they are not evaluated on."""

from itertools import product
from pathlib import Path

import pytest
import yaml

from pipelines.plan.check_rows import check_rows
from pipelines.plan.config import PlanConfig, load_plan
from pipelines.plan.rows import MissingRows
from recsys.errors import InputError

CONFIGS = Path(__file__).parents[3] / "configs"
RANK = {"step": 1, "do": "rank", "model": "dcnv2"}
AVAILABLE = [MissingRows(forward=f, tuning=t) for f, t in product((None, "none"), repeat=2)]


def test_rows_by_hand() -> None:
    both, neither = MissingRows(), MissingRows(forward="no day", tuning="no share")
    assert both.resolve_all(("folds", "auto", "tuning")) == ("folds", "forward", "tuning")
    assert neither.resolve_all(("folds", "auto", "tuning")) == ("folds",)
    assert MissingRows(tuning="no share").resolve("tuning") == "forward"
    assert neither.resolve("forward") == "forward"
    assert (neither.reason("forward"), neither.reason("folds"), both.reason("tuning")) == ("no day", None, None)


def plan_with(evaluate_on: list[str], gate: str, **others: object) -> PlanConfig:
    plan = {
        "name": "p",
        "reference": "a",
        "steps": [
            *({**RANK, "name": name, "evaluate_on": evaluate_on} for name in ("a", "b")),
            {"step": 2, "do": "gate", "gate": "g"},
            *others.get("steps", []),  # type: ignore[misc]
        ],
        "gates": {
            "g": {
                "kind": "comparison",
                "candidate": "b",
                "baselines": ["a"],
                "any_of": [{"metric": "ap", "gain": 0}],
                "evaluate_on": gate,
            }
        },
    }
    return PlanConfig.model_validate(plan)


def test_a_gate_reads_rows_that_its_runs_are_evaluated_on() -> None:
    check_rows(plan_with(["folds", "auto"], "auto"), MissingRows())
    check_rows(plan_with(["folds"], "auto"), MissingRows(forward="no day"))
    check_rows(plan_with(["folds"], "holdout"), MissingRows(holdout="no day"))  # the gate is not applicable
    message = (
        r"gate g reads 'b' on 'forward' \(forward windows\), which the step's evaluate_on does not list: add forward"
    )
    with pytest.raises(InputError, match=message):
        check_rows(plan_with(["folds"], "auto"), MissingRows())
    with pytest.raises(InputError, match="reads 'b' on 'tuning'"):
        check_rows(plan_with(["folds", "auto"], "tuning"), MissingRows())


def test_members_of_ensembles_need_folds_and_the_rows_of_the_last_step() -> None:
    ensemble = {"step": 3, "do": "ensemble", "name": "e", "members": ["a", "b"]}
    final = {"step": 4, "do": "final", "name": "f", "best_of": ["e"]}
    check_rows(plan_with(["folds", "auto"], "auto", steps=[ensemble, final]), MissingRows())
    with pytest.raises(InputError, match="step 'e' reads 'a' on 'folds'"):
        check_rows(plan_with(["auto"], "auto", steps=[ensemble]), MissingRows())
    with pytest.raises(InputError, match="step 'f' reads 'a' on 'forward'"):
        check_rows(plan_with(["folds", "holdout"], "folds", steps=[ensemble, final]), MissingRows())


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("plan*.yaml")), ids=lambda path: path.stem)
def test_committed_plans_evaluate_what_their_gates_read(path: Path) -> None:
    plan = load_plan(path, ("config=toss.yaml",) if path.stem == "plan_own" else ())
    for missing in AVAILABLE:
        check_rows(plan, missing)


def test_the_plan_of_the_product_chooses_on_the_tuning_part_alone() -> None:
    from pipelines.plan.choices import chosen_on_reported

    plan = load_plan(CONFIGS / "plan.yaml", ())
    names = [step.name for step in plan.steps if step.do in ("rank", "ensemble")]
    assert [name for name in names if chosen_on_reported(plan, MissingRows(), name, "forward") is not None] == []
    assert "prepare.folds.tuning_share=0.1" in plan.set
    small = load_plan(CONFIGS / "plan_small.yaml", ())
    assert "prepare.folds.tuning_share=0.1" in small.set
    assert yaml.safe_load((CONFIGS / "plan_small.yaml").read_text())["base"] == "plan.yaml"
