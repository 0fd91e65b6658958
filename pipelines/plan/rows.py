"""The rows that runs of a plan are evaluated on: which of them a data set has, and what `auto` stands for."""

from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.common.splits import default_towers_split
from recsys.data.dataset import PreparedDataset
from recsys.data.split import HOLDOUT
from recsys.evaluation.gates import EvaluateOn, EvaluateOnOrAuto

FOLDS_OPTION: dict[EvaluateOn, str] = {
    "folds": "all",
    "holdout": HOLDOUT,
    "forward": "forward",
    "tuning": "tuning",
}
"""The `--folds` value of each kind of evaluation rows."""
TITLES: dict[EvaluateOn, str] = {
    "folds": "out-of-fold",
    "holdout": "holdout",
    "forward": "forward windows",
    "tuning": "tuning part",
}


@dataclass(frozen=True)
class MissingRows:
    """Why a data set lacks some kinds of evaluation rows; None for those it has."""

    holdout: str | None = None
    forward: str | None = None
    tuning: str | None = None
    towers: str | None = None
    """Why towers have no rows to be evaluated on."""

    def reason(self, evaluate_on: EvaluateOn) -> str | None:
        """Why the data set lacks these rows; None if it has them, as it has folds."""
        return None if evaluate_on == "folds" else getattr(self, evaluate_on)

    def resolve(self, evaluate_on: EvaluateOnOrAuto) -> EvaluateOn:
        """The rows that a step or gate means on this data set.

        `auto` is the forward windows, or the folds without them. Without a tuning part, choices are made on the rows of
        `auto`.
        """
        if evaluate_on == "tuning" and self.tuning is None:
            return "tuning"
        if evaluate_on == "auto" or evaluate_on == "tuning":
            return "forward" if self.forward is None else "folds"
        return evaluate_on

    def resolve_all(self, evaluate_on: Iterable[EvaluateOnOrAuto]) -> tuple[EvaluateOn, ...]:
        """The distinct rows of a step, in its order, including those that the data set lacks."""
        return tuple(dict.fromkeys(self.resolve(rows) for rows in evaluate_on))


def find_missing_rows(dataset: PreparedDataset) -> MissingRows:
    """Finds which evaluation rows a data set lacks, and why."""
    day = dataset.manifest.schema_config.day
    no_days = "the schema has no day" if day is None else "the training rows have fewer than two days"
    names = dataset.split_names
    has_forward = any(name.startswith("forward_") for name in names)
    return MissingRows(
        holdout=None if HOLDOUT in names else no_days,
        forward=None if has_forward else "the data has no forward windows",
        tuning=None if "tuning" in names else "the data has no tuning part",
        towers="the data has no folds, no days and no parts" if towers_split(dataset) is None else None,
    )


def towers_split(dataset: PreparedDataset) -> str | None:
    """The split of a plan's towers: the last day, on which they can be reranked, else that of a run without a plan."""
    return HOLDOUT if HOLDOUT in dataset.split_names else default_towers_split(dataset)
