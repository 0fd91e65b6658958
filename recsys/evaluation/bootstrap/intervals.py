"""Intervals of differences, from the replicates of a bootstrap and from fits that differ in their seed.

The interval is difference +- t sqrt(V), with V the sum of independent parts and t of Student's distribution with the
degrees of freedom of that sum (Welch, "The generalization of Student's problem when several different population
variances are involved", Biometrika 1947; Satterthwaite 1946):

- clusters: the variance of the replicates times G / (G - 1), with G - 1 degrees of freedom for G clusters;
- seeds of either model, if it has several fits: s^2 / S, with s the standard deviation of the metric over its S fits,
  and S - 1 degrees of freedom. Drawing fits again instead would give (S - 1) / S of it (Davison and Hinkley, "Bootstrap
  methods and their application", 1997, section 3.8).

Fits also differ by the noise of these rows, which is in both parts: the replicates tell how much of it there is, and it
is taken off the first part. `python -m benchmarks.coverage` measures the coverage; quantiles of the replicates and BCa
intervals cover less where clicks or clusters are few.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student


def difference_bounds(
    replicates_RMC: np.ndarray, exact_MC: np.ndarray, n_first: int, n_clusters: int, level: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bounds of the difference, second - first, of each metric's mean over the fits of a model, and its p-value.

    Args:
        replicates_RMC: metrics under R bootstrap samples, by fit M and metric C; the first model's fits come first.
            Samples in which a metric is undefined are left out; fewer than two others, or a single
            cluster, give no bounds (NaN).
        exact_MC: metrics of the rows themselves.
        n_first: number of fits of the first model.
        n_clusters: number of clusters that were drawn.
        level: confidence level.

    Returns:
        [C] lower and [C] upper bounds, and [C] two-sided p-values of no difference: at most 1 - level if, and only if,
        the interval leaves zero out.
    """
    defined_RMC = replicates_RMC[np.isfinite(replicates_RMC).all(axis=(1, 2))]
    if len(defined_RMC) < 2 or n_clusters < 2:
        undefined_C = np.full(exact_MC.shape[1], np.nan)
        return undefined_C, undefined_C, undefined_C
    models = (slice(0, n_first), slice(n_first, None))
    exact_first, exact_second = (exact_MC[fits].mean(axis=0) for fits in models)
    difference = exact_second - exact_first
    first, second = (defined_RMC[:, fits].mean(axis=1) for fits in models)
    correction = n_clusters / (n_clusters - 1)
    variance = correction * np.var(second - first, axis=0, ddof=1)
    parts = []
    for fits in models:
        n_fits = len(exact_MC[fits])
        if n_fits > 1:
            noise = np.var(defined_RMC[:, fits] - exact_MC[fits], axis=1, ddof=1).mean(axis=0)
            variance = variance - correction * noise / n_fits
            parts.append((np.var(exact_MC[fits], axis=0, ddof=1) / n_fits, n_fits - 1))
    parts.append((np.maximum(variance, 0.0), n_clusters - 1))
    sd, n_free = _deviation(parts)
    half_width = student.ppf((1 + level) / 2, n_free) * sd
    p_value = np.where(sd > 0, 2 * student.sf(np.abs(difference) / np.where(sd > 0, sd, 1.0), n_free), difference == 0)
    return difference - half_width, difference + half_width, p_value


def _deviation(parts: Sequence[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviation and degrees of freedom of a sum with independent variances, each with its own degrees."""
    total = np.sum([variance for variance, _ in parts], axis=0)
    largest = np.where(total > 0, total, 1.0)
    shares = sum((variance / largest) ** 2 / n_free for variance, n_free in parts)
    n_free = 1 / np.where(shares > 0, shares, 1.0)
    return np.sqrt(total), n_free
