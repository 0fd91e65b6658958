import json
from pathlib import Path
from typing import Any

import pytest

from recsys.errors import InputError
from recsys.runs.layout import METRICS_FILE
from recsys.runs.metrics import RunMetrics, StackSummary, beaten_by, read_metrics, to_json
from recsys.system.seal import seal


def write(folder: Path, metrics: dict[str, Any]) -> Path:
    (folder / METRICS_FILE).write_text(json.dumps(metrics))
    seal(folder)
    return folder


METRICS = RunMetrics(
    overall={"n_rows": 4, "n_positive": 1, "ap": 0.5, "wll": 0.6, "toss_score": 0.5625},
    folds={"0": {"n_rows": 4, "n_positive": 1}},
    spread={"toss_score": {"mean": 0.5, "sd": None}},
    segments={"user": {"new": {"n_rows": 0, "n_positive": 0}}},
    train=StackSummary(fits={}),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_metrics(write(tmp_path, to_json(METRICS))) == METRICS


def test_toss_score_is_read_by_its_earlier_name(tmp_path: Path) -> None:
    without_new_keys = {key: value for key, value in to_json(METRICS).items() if key != "named_metrics"}
    earlier = json.loads(json.dumps(without_new_keys).replace("toss_score", "score"))
    assert read_metrics(write(tmp_path, earlier)) == METRICS


def test_a_segment_called_score_keeps_its_name(tmp_path: Path) -> None:
    metrics = METRICS.model_copy(update={"segments": {"score": METRICS.segments["user"]}})
    assert set(read_metrics(write(tmp_path, to_json(metrics))).segments) == {"score"}


def test_metrics_of_another_kind_of_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metrics\.json.*overall"):
        read_metrics(write(tmp_path, {"two_tower": {}}))


def test_a_model_is_beaten_by_baselines_that_are_better_in_both_metrics() -> None:
    def figures(logloss: float | None, roc_auc: float | None) -> dict[str, float | None]:
        return {"n_rows": 4, "n_positive": 1, "logloss": logloss, "roc_auc": roc_auc}

    baselines = {
        "constant rate": figures(0.40, 0.5),  # lower log loss, lower ROC-AUC
        "logistic regression": figures(0.41, 0.72),
        "equal": figures(0.42, 0.7),
        "trees": figures(0.43, 0.8),
        "undefined": figures(0.1, None),
    }
    values = METRICS.model_dump() | {"overall": figures(0.42, 0.7), "baselines": baselines}
    assert beaten_by(RunMetrics(**values)) == ["logistic regression", "equal"]
    assert beaten_by(RunMetrics(**(values | {"overall": figures(0.42, None)}))) == []
    assert "baselines" not in to_json(METRICS)
    assert set(to_json(RunMetrics(**values))["baselines"]) == baselines.keys()
