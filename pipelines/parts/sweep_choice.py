"""The simplest trial of a sweep that is no worse than the best one by more than one standard error.

The best of many trials on few clicks is best by chance, and often the largest. Source: Breiman et al., "Classification
and regression trees", 1984, section 3.4.3 (the one standard error rule).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.parts.comparison import compare_models
from recsys.data.groups import TUNING
from recsys.evaluation.comparison import COMPARED
from recsys.evaluation.metrics import LOWER_IS_BETTER, NEEDS_USERS, MetricName
from recsys.evaluation.shown import TITLES, format_metric, interval_sd
from recsys.runs.layout import CHECKPOINTS
from recsys.runs.predictions import join_predictions, read_predictions

_N_REPLICATES = 200


@dataclass(frozen=True)
class Simplest:
    """A trial, and how it compares with the best one."""

    run: str
    """The name of its run folder, which lists its settings."""
    loss: float
    """How much worse it is than the best trial, in the metric of the sweep; 0 for the best trial itself."""
    standard_error: float

    def text(self, metric: MetricName) -> str:
        """The choice in words."""
        if self.standard_error == 0:
            return f"simplest: {self.run}, the best trial: no smaller one is within one standard error of it"
        loss, error = format_metric(self.loss), format_metric(self.standard_error)
        return (
            f"simplest: {self.run}, the smallest model within one standard error of the best: its {TITLES[metric]} is "
            f"{loss} worse, with a standard error of {error}"
        )


def find_simplest(runs: Sequence[Path], metric: MetricName) -> Simplest | None:
    """Finds the trial with the smallest weights whose loss in the metric is at most its standard error.

    The error is that of the paired difference to the best trial, by users where the data names them.

    Args:
        runs: the run folders of the completed trials, best first.
        metric: the metric of the sweep; one without a bootstrap gives None.
    """
    if metric not in {*COMPARED, *NEEDS_USERS} or not runs:
        return None
    best, *others = sorted(runs, key=lambda run: run != runs[0])
    size = {run: _n_bytes(run) for run in runs}
    for run in sorted((run for run in others if size[run] < size[best]), key=lambda run: size[run]):
        first, second = join_predictions([read_predictions(best), read_predictions(run)])
        by_seed = (first.predictions.by_seed(), second.predictions.by_seed())
        compared = compare_models(first, *by_seed, f"{run.name} - {best.name}", _N_REPLICATES)
        found = compared.differences[metric]
        loss, error = found.difference, interval_sd(found.low, found.high)
        loss = loss if metric in LOWER_IS_BETTER else -loss
        if loss <= error:
            return Simplest(run.name, max(loss, 0.0), error)
    return Simplest(best.name, 0.0, 0.0)


def _n_bytes(run: Path) -> int:
    """Size of the saved weights or trees of a run."""
    return sum(path.stat().st_size for path in (run / CHECKPOINTS).rglob("*") if path.is_file())


def note_on_choice(splits: Sequence[str], n_trials: int, metric: MetricName) -> str:
    """What the choice of the best of some trials, by a metric on splits, does to its figure, and how to avoid it."""
    if list(splits) == [TUNING]:
        return (
            "the trials are compared on the tuning part, whose rows no other split evaluates: pipelines.rank with the "
            "best settings, with --folds all or forward, gives figures that the choice does not flatter"
        )
    return (
        f"the {TITLES[metric]} of the best trial is optimistic: it was chosen among {n_trials} on the rows that it is "
        f"reported for ({', '.join(splits)}). Without this: prepare with prepare.folds.tuning_share=0.1, sweep with "
        "--folds tuning, and measure the best settings with pipelines.rank on other folds"
    )
