"""The simplest trial within one standard error of the best, on predictions with known differences."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.parts import sweep_choice
from pipelines.parts.sweep_choice import find_simplest
from recsys.evaluation.logits import Logits
from recsys.evaluation.metrics import measure
from recsys.runs.predictions import Predictions, RunPredictions

N_USERS, N_ROWS_OF_USER = 100, 40
N = N_USERS * N_ROWS_OF_USER


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Trials of 4, 3, 2 and 1 kB: the best one, one a little worse, one far worse, and a constant."""
    rng = np.random.default_rng(0)
    truth = rng.normal(-1, 1, N)
    label = (rng.random(N) < 1 / (1 + np.exp(-truth))).astype(np.int8)
    noise = rng.normal(size=N)
    logits = {"best": truth, "near": truth + 0.02 * noise, "far": truth + 2 * noise, "constant": np.full(N, -1.0)}
    folders = {}
    for n_kib, name in zip((4, 3, 2, 1), logits, strict=True):
        folders[name] = tmp_path / name
        (tmp_path / name / "ckpt/tuning").mkdir(parents=True)
        (tmp_path / name / "ckpt/tuning/weights").write_bytes(bytes(1024 * n_kib))
    user = np.repeat(np.arange(N_USERS), N_ROWS_OF_USER).astype(np.int32)

    def read(run: Path) -> RunPredictions:
        natural = Logits.of_one_fit(logits[run.name], 1.0)
        return RunPredictions(
            pa.array(map(str, range(N))), Predictions.of_fold(run.name, np.arange(N), label, natural, user=user)
        )

    monkeypatch.setattr(sweep_choice, "read_predictions", read)
    losses = {name: measure(label, Logits.of_one_fit(values, 1.0)).logloss for name, values in logits.items()}
    assert sorted(losses, key=lambda name: losses[name] or 0.0) == ["best", "near", "constant", "far"]
    return folders


def test_a_smaller_model_that_is_no_worse_is_chosen(trials: dict[str, Path]) -> None:
    chosen = find_simplest(list(trials.values()), "logloss")
    assert chosen is not None
    assert chosen.run == "near"
    assert 0 <= chosen.loss <= chosen.standard_error
    assert "smallest model within one standard error" in chosen.text("logloss")


def test_the_best_is_chosen_if_smaller_ones_are_worse(trials: dict[str, Path]) -> None:
    for metric in ("logloss", "roc_auc", "ap"):
        chosen = find_simplest([trials["best"], trials["far"], trials["constant"]], metric)
        assert chosen is not None
        assert (chosen.run, chosen.loss) == ("best", 0)


def test_a_larger_model_is_never_chosen(trials: dict[str, Path]) -> None:
    chosen = find_simplest([trials["near"], trials["best"]], "logloss")
    assert chosen is not None
    assert chosen.run == "near"


def test_metrics_without_an_interval_have_no_simplest_trial(trials: dict[str, Path]) -> None:
    assert find_simplest(list(trials.values()), "ece") is None
    assert find_simplest([], "logloss") is None
