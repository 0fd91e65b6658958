"""Held-out rows of a model whose logits are off by a known map."""

from collections.abc import Sequence

import numpy as np

from recsys.evaluation.calibration.calibrator import Calibrator
from recsys.evaluation.calibration.rows import HeldOutRows
from recsys.evaluation.logits import Logits, log_pos_weight_of, probability
from recsys.evaluation.stack_choice import Member


def overconfident(n: int = 30_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Natural logits with twice the true standard deviation, labels, folds."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 0.7, n)
    label = (rng.random(n) < probability(truth - 3)).astype(np.int8)
    return 2 * truth - 3, label, rng.integers(0, 4, n).astype(str)


def held_out(
    natural: np.ndarray,
    label: np.ndarray,
    fold: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    shift: float | None = None,
    log_sampling_rate: float = 0.0,
) -> HeldOutRows:
    """Rows of one seed, or of several if the logits are [N, S]; without folds all are in one."""
    by_seed = natural if natural.ndim == 2 else natural[:, None]
    shift = log_pos_weight_of(label) if shift is None else shift
    logits = Logits.of_one_fit(by_seed.mean(axis=1), shift, log_sampling_rate)
    return HeldOutRows(by_seed, logits, label, np.full(len(label), "0") if fold is None else fold, weight)


def uncalibrated(
    names: Sequence[str], logits: np.ndarray, label: np.ndarray, fold: np.ndarray, weight: np.ndarray | None = None
) -> list[Member]:
    """Members of an ensemble whose [N, M] logits no fold calibrates."""
    kinds = dict.fromkeys(map(str, np.unique(fold)), "none")
    return [
        Member(name, held_out(column, label, fold, weight), Calibrator(), kinds, "logloss")
        for name, column in zip(names, logits.T, strict=True)
    ]
