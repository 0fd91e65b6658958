"""Judges calibrations forward in time: fitted to earlier days, evaluated on later ones."""

import numpy as np

from recsys.evaluation.calibration.calibrator import CalibrationKind
from recsys.evaluation.calibration.choice import (
    MIN_ROWS_OF_A_CLASS,
    effective_rows_of_classes,
    figures_of,
    fit_to_rows,
    kinds_for,
)
from recsys.evaluation.calibration.rows import HeldOutRows
from recsys.evaluation.metrics import Metrics

N_ORIGINS = 3
"""Days at most that are evaluated."""


def forward_figures(rows: HeldOutRows) -> dict[CalibrationKind, Metrics]:
    """Metrics by kind, where each of the last days is calibrated by a fit to all days before it.

    Empty without days, or if too few rows of a class are before them. The raw logits stay those of fits that may know
    later days: the calibration alone is judged.
    """
    if rows.day is None:
        return {}
    day = rows.day
    origins = []
    for later in np.unique(day[day >= 0])[1:][-N_ORIGINS:]:
        before = rows.take((day >= 0) & (day < later))
        if min(effective_rows_of_classes(before)) >= MIN_ROWS_OF_A_CLASS:
            origins.append((before, np.flatnonzero(day == later)))
    if not origins:
        return {}
    natural_by_kind = {
        kind: np.concatenate(
            [fit_to_rows(kind, before).natural_logit(rows.raw_by_seed[later]).mean(axis=1) for before, later in origins]
        )
        for kind in kinds_for(origins[0][0])
    }
    return figures_of(rows.take(np.concatenate([later for _, later in origins])), natural_by_kind)
