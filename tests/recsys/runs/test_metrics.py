import json
from pathlib import Path
from typing import Any

import pytest

from recsys.errors import InputError
from recsys.runs.layout import METRICS_FILE
from recsys.runs.metrics import RunMetrics, StackSummary, read_metrics, to_json
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
    earlier = json.loads(json.dumps(to_json(METRICS)).replace("toss_score", "score"))
    assert read_metrics(write(tmp_path, earlier)) == METRICS


def test_a_segment_called_score_keeps_its_name(tmp_path: Path) -> None:
    metrics = METRICS.model_copy(update={"segments": {"score": METRICS.segments["user"]}})
    assert set(read_metrics(write(tmp_path, to_json(metrics))).segments) == {"score"}


def test_metrics_of_another_kind_of_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metrics\.json.*overall"):
        read_metrics(write(tmp_path, {"two_tower": {}}))
