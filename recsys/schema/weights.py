"""Weights of rows: a column of weights or of propensities, and negatives that were sampled before the log came."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from recsys.config import StrictModel


def _refuse_boolean(rate: Any) -> Any:
    if isinstance(rate, bool):
        raise ValueError(f"a sampling rate is a number in (0, 1] or the name of a column, got {rate}")
    return rate


SamplingRate = Annotated[Annotated[float, Field(gt=0, le=1)] | str, BeforeValidator(_refuse_boolean)]
"""The rate at which negatives were kept: a number for all rows, or the column of each row's rate."""

MAX_WEIGHT = 1e30
"""Sums of squares of weights are computed in float64, and weights are stored in float32."""


class WeightColumn(StrictModel):
    """The column of row weights, or of propensities."""

    column: str
    inverse: bool = False
    """Whether a weight is 1 / x: for propensities, the probabilities that rows came into the log."""
    max: Annotated[float, Field(gt=0, le=MAX_WEIGHT)] | None = None
    """Larger weights are clipped to it, after `inverse`."""


class RowWeight(WeightColumn):
    """The resolved weight column."""

    role: str = "schema.weight"
    """The key of the config, for messages."""
    negatives_only: bool = False
    """Whether only negatives have the weight and positives weigh one: the column holds sampling rates of negatives."""


def row_weight(weight: WeightColumn | str | None, sampling_rate: SamplingRate | None) -> RowWeight | None:
    """Resolves the settings to the column that row weights are read from; None if there is none.

    A row's sampling rate r is a weight 1 / r of negatives: each that was kept stands for 1 / r of the full log.
    """
    if isinstance(sampling_rate, str):
        return RowWeight(column=sampling_rate, inverse=True, role="schema.sampling_rate", negatives_only=True)
    if isinstance(weight, str):
        return RowWeight(column=weight)
    return None if weight is None else RowWeight.model_validate(weight.model_dump())
