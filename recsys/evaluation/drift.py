"""The contents of drift.json: how well rows of two times or partitions can be told apart, and by which columns."""

from typing import Literal

from pydantic import BaseModel

from recsys.evaluation.comparison import By

DRIFT_FILE = "drift.json"


class ColumnDrift(BaseModel):
    """How a column differs between earlier and later rows."""

    name: str
    kind: Literal["categorical", "numeric", "sequence"]
    gain: float
    """Share of the classifier's gain."""
    roc_auc: float
    """Of the column alone."""
    psi: float
    """Population stability index, over the most frequent values or twenty quantiles."""
    missing: tuple[float, float]
    """Shares of earlier and later rows without a value."""
    rare: tuple[float, float] | None = None
    """Shares of earlier and later rows whose value has fewer rows among the other earlier rows than a vocabulary
    keeps: the second exceeds the first if values are new. None for columns without a vocabulary."""


class RowsDrift(BaseModel):
    """How well later rows can be told from earlier ones."""

    earlier: str
    later: str
    n_rows: int
    """Rows of each of the two."""
    roc_auc: float
    low: float
    high: float
    by: By
    columns: tuple[ColumnDrift, ...] = ()
    """In falling order of gain."""

    @property
    def name(self) -> str:
        """The two sets of rows, as text."""
        return f"{self.earlier} / {self.later}"


class Drift(BaseModel):
    """All comparisons of a prepared data set."""

    data: str
    seed: int
    comparisons: tuple[RowsDrift, ...]
