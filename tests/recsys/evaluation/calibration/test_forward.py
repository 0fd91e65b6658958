from dataclasses import replace

import numpy as np
import pytest

from recsys.evaluation.calibration.calibrator import CALIBRATIONS
from recsys.evaluation.calibration.choice import fit_to_rows
from recsys.evaluation.calibration.forward import forward_figures
from recsys.evaluation.logits import probability
from tests.helpers.calibration import held_out, overconfident


def test_each_day_is_calibrated_by_the_days_before_it() -> None:
    logit, label, _ = overconfident(12_000)
    day = np.arange(12_000) % 5 - 1  # -1: no day
    rows = replace(held_out(logit, label), day=day.astype(np.int16))
    figures = forward_figures(rows)
    assert tuple(figures) == CALIBRATIONS
    natural, order = [], []
    for later in (1, 2, 3):
        before = fit_to_rows("platt", rows.take((day >= 0) & (day < later)))
        natural.append(before.natural_logit(logit[day == later]))
        order.append(np.flatnonzero(day == later))
    assert figures["platt"] == rows.take(np.concatenate(order)).measure(np.concatenate(natural))
    assert figures["none"].n_rows == (day >= 1).sum()


def test_a_drift_shows_forward_in_time_alone() -> None:
    """The click rate falls by half from day to day: a calibrator of earlier days overestimates the later ones."""
    rng = np.random.default_rng(0)
    day, logit = np.repeat(np.arange(4), 4000), rng.normal(-2, 1, 16_000)
    label = (rng.random(16_000) < probability(logit - 0.7 * day)).astype(np.int8)
    rows = replace(held_out(logit, label), day=day.astype(np.int16))
    later = rows.take(day >= 1)
    in_time = forward_figures(rows)["platt"]
    at_random = later.measure(fit_to_rows("platt", later).natural_logit(logit[day >= 1]))
    assert in_time.logloss > at_random.logloss + 0.003


@pytest.mark.parametrize("day", [None, np.zeros(500, np.int16), np.full(500, -1, np.int16)])
def test_without_an_earlier_day_there_is_nothing_to_judge(day: np.ndarray | None) -> None:
    logit, label, _ = overconfident(500)
    assert forward_figures(replace(held_out(logit, label), day=day)) == {}
    few = replace(held_out(logit, label), day=(np.arange(500) >= 30).astype(np.int16))
    assert forward_figures(few) == {}
