"""Steps that leave out features of no use: what is left out, and what gates say of it."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import ValidationError

from pipelines.plan.choices import chosen_on_reported
from pipelines.plan.config import PlanConfig
from pipelines.plan.rows import MissingRows
from pipelines.plan.selection import Selection, read_selection, useless_features, with_selection
from recsys.data.dataset import PreparedDataset
from recsys.evaluation.importance import FeatureImportance, Importances, Loss
from recsys.schema.feature_selection import FeatureConfig
from recsys.schema.resolved import resolve_schema
from tests.helpers.commands import Run
from tests.helpers.small import small_schema, small_table

PLAN = """
name: selection
config: config.yaml
reference: all
bootstrap: {replicates: 200}
models: {gbdt: [model.n_trees=60, trainer.trees_per_epoch=10, model.min_data_in_leaf=20]}
steps:
  - {step: 1, do: rank, name: all, model: gbdt, evaluate_on: [folds, tuning]}
  - {step: 2, do: rank, name: selected, model: gbdt, select_by: all, evaluate_on: [folds]}
  - {step: 2, do: rank, name: without-good, model: gbdt, evaluate_on: [folds],
     set: ["features.leave_out_numeric=[good]"]}
  - {step: 2, do: gate, gate: selected}
  - {step: 2, do: gate, gate: without-good}
gates:
  selected: {kind: comparison, candidate: selected, baselines: [all], evaluate_on: folds,
    any_of: [{metric: logloss, gain: 0}]}
  without-good: {kind: comparison, candidate: without-good, baselines: [all], evaluate_on: folds,
    any_of: [{metric: logloss, gain: 0}]}
"""


def a_plan(**changes: object) -> PlanConfig:
    values = yaml.safe_load(PLAN)
    values["steps"][1] |= changes.pop("selected", {})
    return PlanConfig.model_validate(values | changes)


def measured(losses: dict[str, float | None]) -> Importances:
    """The importance of features by name; None for one that is not read."""
    features = [
        FeatureImportance(
            name=name,
            features=(name,),
            is_read=loss is not None,
            losses={"logloss": Loss(loss=loss or 0.0, low=-1, high=1)},
        )
        for name, loss in losses.items()
    ]
    return Importances(
        run="r",
        metric="logloss",
        n_rows=9,
        n_positive=4,
        by="row",
        n_clusters=9,
        splits=("tuning",),
        seed=0,
        repeats=3,
        metrics={},
        features=tuple(features),
    )


def test_features_whose_permutation_does_not_raise_the_loss_are_left_out() -> None:
    encodings = {"color": ["ctr"], "seen": ["ctr"], "color*shop": ["ctr"]}
    config = small_schema(encodings=encodings, target_item="shop")
    schema = resolve_schema(config, small_table(10).column_names)
    losses = {"color": -0.1, "shop": -0.1, "color*shop": 0.0, "x_1": 0.1, "x_2": -0.1, "x_10": None, "seen": -0.1}
    found = useless_features(measured(losses), schema)
    assert found == Selection(
        leave_out=("color",), leave_out_numeric=("x_2",), leave_out_encodings=("color", "color*shop", "seen")
    )  # the target item and the tokens are kept, and a feature that is not read has no say
    assert useless_features(measured({"color": -0.1, "x_1": -0.1}), schema) == Selection()
    features = with_selection(FeatureConfig(leave_out=("b*",), min_count=4), found)
    assert (features.leave_out, features.min_count) == (("b*", "color"), 4)


def test_a_selection_on_the_tuning_part_costs_other_rows_nothing() -> None:
    assert chosen_on_reported(a_plan(), MissingRows(), "selected", "folds") is None
    assert chosen_on_reported(a_plan(), MissingRows(), "selected", "tuning") == (
        "chosen on reported rows: importance of all"
    )


@pytest.mark.parametrize("first", [{"evaluate_on": ["folds"]}, {"features_of": "towers"}])
def test_a_run_without_the_tuning_part_selects_nothing(first: dict[str, object]) -> None:
    values = yaml.safe_load(PLAN)
    values["steps"][0] |= first
    values["steps"].insert(0, {"step": 1, "do": "retrieval", "name": "towers"})
    with pytest.raises(ValidationError, match="select_by: 'all' is no rank step .* tuning in its evaluate_on"):
        PlanConfig.model_validate(values)
    with pytest.raises(ValidationError, match="step 'selected': no earlier step has the name 'al'"):
        a_plan(selected={"select_by": "al"})


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows whose click depends on one number; twenty others are noise."""
    folder, rng, n = tmp_path_factory.mktemp("noise"), np.random.default_rng(0), 3000
    good = rng.normal(size=n)
    columns = {"id": [f"r{i}" for i in range(n)], "good": good, "color": rng.choice(["a", "b"], n)}
    columns |= {f"noise_{i}": rng.normal(size=n) for i in range(20)}
    table = pa.table(columns | {"click": (rng.random(n) < 1 / (1 + np.exp(1 - 1.5 * good))).astype(np.int8)})
    pq.write_table(table, folder / "train.parquet")
    return folder


def write_plan(folder: Path, raw: Path, tuning_share: float) -> None:
    schema = {"label": "click", "id": "id", "categorical": ["color"], "numeric": ["good", "noise_*"]}
    prepare = {"n_folds": 3, "folds": {"tuning_share": tuning_share}}
    config = {"name": "noise", "files": {"train": [str(raw / "train.parquet")]}, "schema": schema, "prepare": prepare}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "plan.yaml").write_text(PLAN)


def test_a_gate_judges_what_is_left_out(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.chdir(tmp_path)
    write_plan(tmp_path, raw, tuning_share=0.3)
    planned = run("plan", "--config", "plan.yaml", "--data", str(raw), "--out", "out")
    assert planned.code == 0, planned.err
    selection = read_selection(Path("out/1-all-tuning"))
    assert len(selection.leave_out_numeric) >= 5
    assert "good" not in selection.leave_out_numeric
    kept = yaml.safe_load(Path("out/2-selected/config.yaml").read_text())["features"]
    assert tuple(kept["leave_out_numeric"]) == selection.leave_out_numeric
    verdicts = {gate: json.loads(Path(f"out/gates/{gate}.json").read_text()) for gate in ("selected", "without-good")}
    assert verdicts["selected"]["outcome"] == "adopt"
    assert verdicts["without-good"]["outcome"] == "reject"
    (prepared,) = Path("prepared").iterdir()
    dataset = PreparedDataset.open(prepared)
    tuning = set(dataset.split("tuning").held_out_rows.numbers().tolist())
    reported = [dataset.split(f"fold_{fold}").held_out_rows.numbers().tolist() for fold in range(3)]
    assert tuning.isdisjoint(number for numbers in reported for number in numbers)


def test_data_without_a_tuning_part(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.chdir(tmp_path)
    write_plan(tmp_path, raw, tuning_share=0.0)
    planned = run("plan", "--config", "plan.yaml", "--data", str(raw), "--out", "out", "--dry-run")
    assert planned.code == 0, planned.err
    assert "not applicable: the data has no tuning part" in " ".join(planned.out.split())
