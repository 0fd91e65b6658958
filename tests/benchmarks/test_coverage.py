"""Intervals by user and over seeds hold the true difference as often as they say; those by row do not."""

import sys

import numpy as np
import pytest

from benchmarks.coverage.__main__ import coverage
from benchmarks.coverage.scenarios import MEASURED, SCENARIOS, Scenario
from benchmarks.coverage.simulation import measure_coverage
from pipelines.common.cli import run_pipeline
from recsys.evaluation.metrics import MetricName


def mean(by_metric: dict[MetricName, float]) -> float:
    return float(np.mean(list(by_metric.values())))


def test_intervals_by_user_cover_and_those_by_row_do_not() -> None:
    found = measure_coverage(Scenario(60, 50), n_simulations=40, n_replicates=100)
    assert 0.9 <= mean(found.by_user) <= 0.99
    assert found.by_user["gauc"] >= 0.85
    assert "gauc" not in found.by_row
    assert mean(found.by_row) < 0.85


def test_intervals_agree_where_users_have_one_row() -> None:
    found = measure_coverage(Scenario(1000, 1), n_simulations=20, n_replicates=60)
    assert found.by_user == found.by_row


def test_twins_are_called_different_by_single_fits_only() -> None:
    """Fits of one model, whose errors differ in size by the seed: three fits each tell that, one each cannot."""
    single, several = (
        measure_coverage(Scenario(100, 20, n_seeds=n, seed_sd=0.15, are_twins=True), 40, 60) for n in (1, 3)
    )
    assert 1 - mean(single.by_user) > 0.25
    assert 1 - mean(several.by_user) <= 0.08


def test_the_truth_of_equal_models_is_zero_and_that_of_a_better_one_has_its_sign() -> None:
    assert not SCENARIOS["rows-50"].true_differences().any()
    better = Scenario(500, 10, second_error=0.6)
    truth = dict(zip(MEASURED, better.true_differences(n_samples=2), strict=True))
    assert truth["ap"] > 0
    assert truth["roc_auc"] > 0
    assert truth["gauc"] > 0
    assert truth["logloss"] < 0


def test_the_command_prints_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["coverage", *arguments])
        with pytest.raises(SystemExit) as stopped:
            run_pipeline(coverage)
        return int(stopped.value.code or 0)

    size = ("--simulations", "10", "--replicates", "50")
    assert run("--only", "users-10", *size, "--processes", "2") == 0
    printed = capsys.readouterr().out
    assert "users-10" in printed
    assert "Monte Carlo error" in printed
    assert run("--only", "users-11", *size) == 2
    assert "choose from rows-1" in capsys.readouterr().err
