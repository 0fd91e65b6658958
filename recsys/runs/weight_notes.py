"""What a table of metrics says about weights and about the sampling of negatives."""

from recsys.runs.metrics import RunMetrics


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
        notes.append(
            f"{100 * rate:.3g} % of the negatives are in the data: p, logloss and ece are those of the full log, but "
            "ap, pr_auc and toss_score are those of the sample"
        )
    return notes
