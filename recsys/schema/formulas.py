"""Numbers that are computed from columns of numbers: a grammar of ratios and cycles.

    "clicks / views"     the ratio of two columns
    "cyclic(hour, 24)"   sine and cosine of the place in a cycle of 24

Nothing is evaluated as code: a text is one of these two forms, or an error.
"""

import re
from collections.abc import Collection, Mapping
from typing import Literal

import numpy as np

from recsys.config import StrictModel
from recsys.errors import InputError
from recsys.patterns import nearest

_RATIO = re.compile(r"\s*([^/(),]*[^/(),\s])\s*/\s*([^/(),]*[^/(),\s])\s*")
_CYCLE = re.compile(r"\s*cyclic\(\s*([^/(),]*[^/(),\s])\s*,\s*(\d+(?:\.\d+)?)\s*\)\s*")


class Formula(StrictModel):
    """A number that is computed from columns of numbers of the same row."""

    kind: Literal["ratio", "sin", "cos"]
    columns: tuple[str, ...]
    """Numerator and denominator, or the column of a cycle."""
    period: float | None = None
    """Length of the cycle."""

    def __call__(self, *values: np.ndarray) -> np.ndarray:
        """Computes [n] float64 results of the [n] float64 values of the columns; NaN for null, and for x / 0."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if self.kind == "ratio":
                numerator, denominator = values
                return np.where(denominator == 0, np.nan, numerator / denominator)
            assert self.period is not None
            angle = 2 * np.pi * (values[0] % self.period) / self.period
            return np.sin(angle) if self.kind == "sin" else np.cos(angle)


def parse_formulas(texts: Mapping[str, str], columns: Collection[str]) -> dict[str, Formula]:
    """Reads formulas by the name of their column; a cycle has two, NAME_sin and NAME_cos.

    Args:
        texts: the formulas as a user writes them.
        columns: the columns of the data, without the label and weights.

    Raises:
        InputError: for a text of another form, a period of 0, or an unknown column.
    """
    formulas: dict[str, Formula] = {}
    for name, text in texts.items():
        role = f"schema.derived.{name}"
        if match := _RATIO.fullmatch(text):
            found = {name: Formula(kind="ratio", columns=match.groups())}
        elif match := _CYCLE.fullmatch(text):
            column, period = match[1], float(match[2])
            if period == 0:
                raise InputError(f"{role}: {text!r} has a cycle of length 0: give its length, such as 24")
            found = {f"{name}_{kind}": Formula(kind=kind, columns=(column,), period=period) for kind in ("sin", "cos")}
        else:
            raise InputError(f'{role}: {text!r} is not a formula: write "a / b" or "cyclic(hour, 24)"')
        for column in next(iter(found.values())).columns:
            if column not in columns:
                raise InputError(f"{role}: the data has no column {column!r}{nearest(column, columns)} to compute with")
        formulas |= found
    return formulas
