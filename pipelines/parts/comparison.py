"""Compares models on rows of finished runs, by the users or the days of the rows."""

from collections.abc import Sequence

from recsys.evaluation.comparison import By, Comparison, paired_bootstrap
from recsys.evaluation.logits import Logits
from recsys.runs.clusters import clusters_of
from recsys.runs.predictions import RunPredictions
from recsys.system.progress import progress_line


def compare_models(
    rows: RunPredictions,
    first: Logits | Sequence[Logits],
    second: Logits | Sequence[Logits],
    title: str,
    n_replicates: int,
    seed: int = 0,
    by: By | None = None,
) -> Comparison:
    """Computes the differences second - first by the paired bootstrap, with a progress line.

    Args:
        rows: a run on the compared rows, for their labels, weights, users and days.
        first: predictions of the reference model for the rows, or those of several fits that differ in their seed.
        second: predictions of the evaluated model.
        title: title of the progress line.
        n_replicates: number of bootstrap samples.
        seed: seed of the draws.
        by: what a sample draws; None draws users where they are known, otherwise rows.

    Raises:
        InputError: if all rows have the same label, or their users or days are asked for and unknown.
    """
    drawn, cluster = clusters_of(rows, by)
    with progress_line(title, n_replicates, unit="replicates") as line:
        return paired_bootstrap(
            rows.label,
            first,
            second,
            n_replicates,
            seed=seed,
            on_replicate=lambda: line.advance(1),
            weight=rows.weight,
            cluster=cluster,
            by=drawn,
        )
