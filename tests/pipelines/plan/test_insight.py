import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipelines.plan.report.insight import drift_section, importance_section
from pipelines.plan.state import PlanState, Runs
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.evaluation.comparison import COMPARED
from recsys.evaluation.drift import ColumnDrift, Drift, RowsDrift
from recsys.evaluation.importance import FeatureImportance, Importances, Loss
from recsys.report.html import Plot, Table


def measured(name: str, loss: float, is_read: bool = True) -> FeatureImportance:
    losses = {metric: Loss(loss=loss, low=loss - 0.001, high=loss + 0.001) for metric in COMPARED}
    return FeatureImportance(name=name, features=(name,), is_read=is_read, losses=losses)


def texts(block: Any) -> list[list[str]]:
    assert isinstance(block, Table)
    return [[cell.text for cell in row.cells] for row in block.rows]


def test_files_of_runs_and_data_become_sections(tmp_path: Path, small: PreparedDataset) -> None:
    state = cast(
        PlanState,
        SimpleNamespace(resolve=lambda _: "forward", folder=lambda name, rows="folds": tmp_path / f"{name}-{rows}"),
    )
    runs = cast(Runs, dict.fromkeys(("trees", "crosses")))
    dataset = replace(small, folder=tmp_path)
    assert importance_section(state, runs, tmp_path).blocks == drift_section(dataset, tmp_path).blocks == []

    (tmp_path / "trees-folds").mkdir()
    counts: dict[str, Any] = {"n_rows": 1000, "n_positive": 100, "n_clusters": 1000, "repeats": 1, "seed": 0}
    features = (measured("color", 0.02), measured("noise", 0.0), measured("seen", 0.0, is_read=False))
    found = Importances(
        run="trees", metric="logloss", by="row", splits=("fold_0",), metrics={"ap": 0.5}, features=features, **counts
    )
    (tmp_path / "trees-folds/importance.json").write_text(found.model_dump_json())
    column = ColumnDrift(name="ad", kind="categorical", gain=0.75, roc_auc=0.7, psi=1.0, missing=(0, 0), rare=(0.1, 1))
    rows = RowsDrift(
        earlier="train", later="test", n_rows=500, roc_auc=0.8, low=0.79, high=0.81, by="user", columns=(column,)
    )
    (tmp_path / "drift.json").write_text(Drift(data="d", seed=0, comparisons=(rows,)).model_dump_json())

    table, plot = importance_section(state, runs, tmp_path).blocks
    assert [cells[:2] for cells in texts(table)] == [["color", "+0.02000"], ["noise", "+0.00000"]]
    assert isinstance(plot, Plot)
    table, plot = drift_section(dataset, tmp_path).blocks
    assert texts(table) == [["train / test", "500", "0.8000", "+0.2900 .. +0.3100", "ad (75%)"]]
    (tmp_path / "drift.json").write_text(json.dumps({"data": "d"}))
    with pytest.raises(InputError, match=r"drift.json"):
        drift_section(dataset, tmp_path)
