"""The generator's own form: the inputs that its click logit is made of, and the true probabilities.

Weights are left free, and the effects of ids and pairs are free for each value; the inputs themselves are known
exactly, also those that a model has to find in the columns: the user's taste and activity, and the match of the ad with
the last events.

Shapes: n rows, K dense columns.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.bound.effects import Design
from recsys.synthetic import GeneratorConfig, columns
from recsys.synthetic.ads import N_AD_SETS, N_AD_TYPES
from recsys.synthetic.impressions import fit_click_model
from recsys.synthetic.sequences import MATCH_LENGTH
from recsys.system.progress import progress_line
from recsys.system.threads import in_threads

_BLOCK_ROWS = 1024
_ACTIVITY_KNOTS = np.linspace(-2.5, 2.5, 11)
_DENSE = ("intercept", "taste", "activity", "match", "is null")
_N_FORMATS, _N_SLOTS = 5, 18
LEVELS = {
    "ad set": N_AD_SETS,
    "inventory": len(columns.INVENTORY),
    "age": len(columns.AGE),
    "gender": len(columns.GENDER),
    "hour": len(columns.HOURS),
    "day": len(columns.DAYS),
    "inventory x age": len(columns.INVENTORY) * len(columns.AGE),
    "inventory x ad type": len(columns.INVENTORY) * N_AD_TYPES,
    "slot x format": _N_SLOTS * _N_FORMATS,
}
"""Number of values of the ids and pairs that the logit has effects of."""


@dataclass(frozen=True, eq=False)
class GeneratedRows:
    """The rows of a split."""

    design: Design
    p: np.ndarray
    """[n] true click probabilities."""
    label: np.ndarray
    """[n] 0 / 1."""


def generated_rows(config: GeneratorConfig, split: Literal["train", "test"]) -> GeneratedRows:
    """Computes the rows of a split, as `generate` draws them, without their columns."""
    maker = config.impression_generator(split)
    base_rate = columns.TEST_BASE_RATE if split == "test" else columns.BASE_RATE
    model = fit_click_model(maker, config.seq_strength, base_rate)
    n = config.test_rows if split == "test" else config.n_rows
    dense = np.empty((n, len(_DENSE) + len(_ACTIVITY_KNOTS)), np.float32)
    codes, p, label = np.empty((n, len(LEVELS)), np.int32), np.empty(n), np.empty(n, np.int8)

    def fill(start: int) -> None:
        rows = slice(start, min(start + _BLOCK_ROWS, n))
        drawn = maker.impressions(np.arange(rows.start, rows.stop))
        match = maker.match(drawn, maker.events(drawn, MATCH_LENGTH))
        users, ad_type = drawn.users, maker.ads.columns(drawn.ad_set, drawn.creative)["l_feat_4"].astype(np.int64) - 1
        p[rows] = model.probability(drawn, match)
        label[rows] = maker.label_uniform(drawn) < p[rows]
        fixed = (np.ones(len(match)), users.taste, users.activity, match, drawn.is_null_1 | drawn.is_null_2)
        dense[rows] = np.concatenate([np.stack(fixed, axis=1), hats(users.activity)], axis=1)
        codes[rows] = np.stack(
            [
                drawn.ad_set,
                drawn.inventory,
                users.age,
                users.gender,
                drawn.hour,
                np.where(drawn.day < len(columns.DAYS), drawn.day, -1),  # the test day has no effect of its own
                drawn.inventory * len(columns.AGE) + users.age,
                drawn.inventory * N_AD_TYPES + ad_type,
                (drawn.slot - 1) * _N_FORMATS + drawn.ad_format - 1,
            ],
            axis=1,
        )

    with progress_line(f"computing {split} rows", n) as line:
        for start, _ in in_threads(fill, range(0, n, _BLOCK_ROWS)):
            line.advance(min(_BLOCK_ROWS, n - start))
    curve = {"activity curve": slice(len(_DENSE), dense.shape[1])}
    return GeneratedRows(Design(dense, curve, codes, LEVELS), p, label)


def hats(values: np.ndarray) -> np.ndarray:
    """[n, 11] piecewise linear functions of [n] values: one at a knot, zero at the others."""
    inside = np.clip(values, _ACTIVITY_KNOTS[0], _ACTIVITY_KNOTS[-1])
    width = _ACTIVITY_KNOTS[1] - _ACTIVITY_KNOTS[0]
    return np.maximum(0, 1 - np.abs(inside[:, None] - _ACTIVITY_KNOTS) / width)
