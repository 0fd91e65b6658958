"""The distribution of predictions by hand, with weights, and the truth of generated data on the gate."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from pipelines.plan.evaluation.distribution import distribution_of
from recsys.evaluation.gates import DistributionGate
from recsys.evaluation.logits import Logits
from recsys.evaluation.verdicts.distribution import distribution_verdict
from recsys.runs.predictions import Predictions, RunPredictions

GATE = DistributionGate(kind="distribution", run="r")


def run_of(natural: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None) -> RunPredictions:
    n = len(label)
    predictions = Predictions.of_fold("0", np.arange(n), label, Logits.of_one_fit(natural, 1.0), weight)
    return RunPredictions(pa.array(map(str, range(n))), predictions)


def test_a_distribution_by_hand() -> None:
    """Two rows of p = .5 and .75 with weights 3 and 1: mean .5625, rate .25, std of the logit ln 3 sqrt(3 / 16)."""
    natural, label = np.array([0.0, np.log(3)]), np.array([0, 1])
    found = distribution_of(run_of(natural, label, np.array([3, 1], np.float32)), None, "")
    assert found.mean_p == pytest.approx(0.5625)
    assert found.observed_rate == pytest.approx(0.25)
    assert found.std_logit == pytest.approx(np.log(3) * np.sqrt(3 / 16))
    assert found.rate_sd == pytest.approx(np.sqrt((0.75 * 0.25) ** 2 + (0.25 * 0.75) ** 2))
    assert found.reachable_std is None


def test_true_probabilities_pass_and_a_squeezed_or_shifted_copy_does_not() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(-3.9, 1.0, 50_000)
    label = (rng.random(len(true)) < 1 / (1 + np.exp(-true))).astype(np.int8)
    for natural, is_adopted in ((true, True), (true.mean() + 0.2 * (true - true.mean()), False), (true + 0.5, False)):
        found = distribution_of(run_of(natural, label), true, "the true probabilities")
        assert distribution_verdict("d", GATE, found).is_adopted == is_adopted
    assert replace(found, reachable_std=None).reference == "the true probabilities"
