"""Comparisons of two runs, made up for tests of verdicts."""

from recsys.evaluation.comparison import Comparison, Difference
from recsys.evaluation.verdicts.gains import Compared


def difference(first: float, second: float, half_width: float, p_value: float | None = None) -> Difference:
    """A difference with a symmetric interval."""
    d = second - first
    return Difference(
        first=first, second=second, difference=d, low=d - half_width, high=d + half_width, p_value=p_value
    )


def compared(
    baseline: str = "gbdt", n_clusters: int = 1000, n_seeds: tuple[int, int] = (1, 1), **differences: Difference
) -> Compared:
    """A comparison with a baseline, by users, with the given differences by metric."""
    comparison = Comparison(
        differences=differences, by="user", n_rows=100_000, n_positive=2_000, n_clusters=n_clusters, n_seeds=n_seeds
    )
    return Compared(baseline, comparison)
