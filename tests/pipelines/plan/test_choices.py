"""Choices and the figures reported afterwards, on data with known truth: labels that nothing predicts.

No model can be better than chance, so that an honest estimate of the best of many has the mean of chance.
"""

import json
from pathlib import Path

import numpy as np
import yaml
from sklearn.metrics import roc_auc_score

from pipelines.plan.choices import CHOSEN_ON_REPORTED, best_point, chosen_on_reported
from pipelines.plan.config import PlanConfig
from pipelines.plan.rows import MissingRows
from pipelines.plan.state import PlanState
from recsys.evaluation.comparison import paired_bootstrap
from recsys.evaluation.gates import ComparisonGate, Criterion
from recsys.evaluation.logits import Logits
from recsys.evaluation.verdicts.comparison import comparison_verdict
from recsys.evaluation.verdicts.gains import Compared

N_ROWS, N_TRIALS, N_PLANS = 400, 20, 60
CHANCE = 0.5


def sweep_folder(folder: Path, auc: np.ndarray) -> Path:
    """A finished sweep whose trials have the given ROC-AUC on its evaluation rows."""
    trials = [
        {"state": "complete", "run": f"trial-{n}", "point": {"n": n}, "metrics": {"roc_auc": value}}
        for n, value in enumerate(auc.tolist())
    ]
    folder.mkdir(exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps({"metric": "roc_auc", "trials": trials}))
    return folder


def test_a_choice_on_the_tuning_part_leaves_the_reported_figure_unbiased(tmp_path: Path) -> None:
    """Twin: the best trial by the reported rows themselves, as before, has a ROC-AUC above chance."""
    rng, on_tuning, on_reported = np.random.default_rng(0), [], []
    for _ in range(N_PLANS):
        label_tuning, label = ((rng.random(N_ROWS) < 0.3).astype(int) for _ in range(2))
        logits_tuning, logits = rng.normal(size=(2, N_TRIALS, N_ROWS))
        tuning = np.array([roc_auc_score(label_tuning, trial) for trial in logits_tuning])
        reported = np.array([roc_auc_score(label, trial) for trial in logits])
        for values, found in ((tuning, on_tuning), (reported, on_reported)):
            (point,) = best_point(sweep_folder(tmp_path / "sweep", values), on_tuning=True)
            found.append(reported[int(point.removeprefix("n="))])
    standard_error = np.std(on_tuning, ddof=1) / np.sqrt(N_PLANS)
    assert abs(np.mean(on_tuning) - CHANCE) < 3 * standard_error
    assert np.mean(on_reported) - CHANCE > 10 * standard_error


def test_a_gate_on_the_tuning_part_leaves_the_gain_unbiased() -> None:
    """A gate adopts the first of many settings that gains on its rows; twin: the gain on the rows that it judged."""
    gate = ComparisonGate(
        kind="comparison",
        candidate="setting",
        baselines=("base",),
        any_of=(Criterion(metric="roc_auc", gain=0, interval="reported"),),
        settings=("trainer.epochs=2",),
    )
    rng, on_tuning, on_reported = np.random.default_rng(0), [], []
    for _ in range(N_PLANS):
        label_tuning, label = ((rng.random(N_ROWS) < 0.3).astype(np.int8) for _ in range(2))
        pairs = [[Logits.of_one_fit(rng.normal(size=N_ROWS), 1.0) for _ in range(2)] for _ in range(2)]
        comparisons = [
            paired_bootstrap(labels, *pair, n_replicates=2)
            for labels, pair in zip((label_tuning, label), pairs, strict=True)
        ]
        gain = comparisons[1].differences["roc_auc"].difference
        for comparison, found in zip(comparisons, (on_tuning, on_reported), strict=True):
            if comparison_verdict("g", gate, "setting", [Compared("base", comparison)]).is_adopted:
                found.append(gain)
    assert abs(np.mean(on_tuning)) < 3 * np.std(on_tuning, ddof=1) / np.sqrt(len(on_tuning))
    assert np.mean(on_reported) > 0.02


def a_plan() -> PlanConfig:
    text = """
    name: p
    reference: gbdt
    steps:
      - {step: 1, do: rank, name: gbdt, model: gbdt}
      - {step: 1, do: rank, name: dcnv2, model: dcnv2, evaluate_on: [tuning, auto]}
      - {step: 1, do: rank, name: focal, model: dcnv2, evaluate_on: [tuning]}
      - {step: 1, do: gate, gate: loss}
      - {step: 2, do: sweep, name: ablation, model: dcnv2, over: ["model.cross_depth=1,2"]}
      - {step: 2, do: rank, name: best, model: dcnv2, best_of: ablation}
      - {step: 2, do: rank, name: later, model: xdeepfm}
      - {step: 3, do: ensemble, name: both, members: [gbdt, best]}
    gates:
      loss: {kind: comparison, candidate: focal, baselines: [dcnv2], any_of: [{metric: ap, gain: 0}],
             settings: [trainer.loss.name=focal], evaluate_on: tuning}
    """
    return PlanConfig.model_validate(yaml.safe_load(text))


def test_seeds_of_a_plan_are_those_of_its_ranking_steps(tmp_path: Path) -> None:
    config = {"name": "c", "files": {"train": ["a"]}, "schema": {"label": "y", "categorical": ["a"]}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    plan = a_plan().model_copy(update={"seeds": 3, "config": str(tmp_path / "config.yaml")})
    state = PlanState(plan, tmp_path / "out")
    seeds = {step.name: state.rank_config(step).trainer.seeds for step in plan.steps if step.do in ("rank", "sweep")}  # type: ignore[union-attr, arg-type]
    assert seeds.pop("ablation") == 1
    assert set(seeds.values()) == {3}


def test_figures_that_depend_on_a_choice_say_so() -> None:
    plan, no_tuning = a_plan(), MissingRows(tuning="the data has no tuning part")
    for rows in ("folds", "forward"):
        for name in ("gbdt", "dcnv2", "best", "later", "both"):
            assert chosen_on_reported(plan, MissingRows(), name, rows) is None  # type: ignore[arg-type]
    notes = {name: chosen_on_reported(plan, no_tuning, name, "forward") for name in ("gbdt", "best", "later", "both")}
    assert notes == {
        "gbdt": None,
        "best": f"{CHOSEN_ON_REPORTED}: sweep ablation, gate loss",
        "later": f"{CHOSEN_ON_REPORTED}: gate loss",
        "both": f"{CHOSEN_ON_REPORTED}: sweep ablation, gate loss",
    }


def test_a_choice_on_the_tuning_part_flatters_figures_of_the_tuning_part() -> None:
    plan = a_plan()
    assert (
        chosen_on_reported(plan, MissingRows(), "best", "tuning") == f"{CHOSEN_ON_REPORTED}: sweep ablation, gate loss"
    )
    assert chosen_on_reported(plan, MissingRows(), "focal", "tuning") is None
