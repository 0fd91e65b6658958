"""What a table of metrics says about weights and about the sampling of negatives."""

from recsys.evaluation.metrics import MetricName
from recsys.evaluation.shown import titles
from recsys.runs.metrics import RunMetrics

_OF_THE_SAMPLE: frozenset[MetricName] = frozenset({"ap", "pr_auc", "toss_score"})
"""Metrics that depend on the share of positives among the rows, and are not weighted by the rate of sampling."""


def weight_notes(metrics: RunMetrics) -> list[str]:
    """Lines under the table of a run: the effective sample size, and which metrics are those of the sample."""
    notes, overall = [], metrics.overall
    if overall.n_effective is not None:
        notes.append(
            f"metrics are weighted: {overall.n_rows:,} rows count as {overall.n_effective:,.0f} of equal weight "
            "(effective sample size)"
        )
    rate = next((link.sampling_rate for link in metrics.links.values()), 1.0)
    if rate != 1:
        of_the_sample = ", ".join(titles(name for name in metrics.shown if name in _OF_THE_SAMPLE))
        notes.append(
            f"{100 * rate:.3g} % of the negatives are in the data: p, log loss and ECE are those of the full log; of "
            f"the sample: {of_the_sample}"
        )
    return notes
