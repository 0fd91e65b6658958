"""The splits of a data set that `--folds` and `--split` name."""

from collections.abc import Sequence

from recsys.data.dataset import PreparedDataset
from recsys.data.groups import FOLD, FORWARD, FULL, HOLDOUT, TUNING
from recsys.errors import InputError


def choose_splits(dataset: PreparedDataset, folds: str | None, recorded: Sequence[str] = ()) -> list[str]:
    """The splits that models are fitted to.

    Args:
        dataset: the prepared data set.
        folds: the value of `--folds`; None takes the recorded splits, else the data set's default.
        recorded: splits in the config of a finished run.

    Raises:
        InputError: for folds that the data set does not have.
    """
    if folds is None and recorded:
        return list(recorded)
    folds = folds or (FULL if dataset.predefined_splits else "all")
    if folds == "all":
        chosen = [name for name in dataset.split_names if name.startswith(FOLD)] or [f"{FOLD}0"]
    elif folds == "forward":
        chosen = [name for name in dataset.split_names if name.startswith(FORWARD)] or [f"{FORWARD}1"]
    elif folds in (FULL, HOLDOUT, TUNING):
        chosen = [folds]
    else:
        chosen = [f"{FOLD}{fold.strip()}" for fold in folds.split(",")]
    if missing := [name for name in chosen if name not in dataset.split_names]:
        raise InputError(
            f"--folds {folds}: {dataset.folder} has no {missing[0]}; it has {', '.join(dataset.split_names)}"
            f"{dataset.why_missing(missing[0])}: pass {', '.join(_folds_values(dataset))}"
        )
    return list(dict.fromkeys(chosen))


def _folds_values(dataset: PreparedDataset) -> list[str]:
    """What `--folds` may be for a data set."""
    names = dataset.split_names
    kinds = {"all": FOLD, "forward": FORWARD}
    values = [value for value, prefix in kinds.items() if any(name.startswith(prefix) for name in names)]
    values += [name for name in (HOLDOUT, TUNING, FULL) if name in names]
    return [*values, "or fold numbers such as 0,1"] if "all" in values else values


def choose_towers_split(dataset: PreparedDataset, split: str | None) -> str:
    """The split of `--split`; None takes the default.

    Raises:
        InputError: for a split that the data set does not have.
    """
    if split is None and (split := default_towers_split(dataset)) is None:
        raise InputError(f"{dataset.folder} has no rows to evaluate on{dataset.why_missing(f'{FOLD}0')}: add rows")
    if split not in dataset.split_names:
        raise InputError(f"--split {split}: {dataset.folder} has {', '.join(dataset.split_names)}: pass one of them")
    if split == "full" and not dataset.predefined_splits:
        raise InputError(f"--split full: {dataset.folder} has no valid or test rows with labels: pass another split")
    return split


def default_towers_split(dataset: PreparedDataset) -> str | None:
    """The split that towers are evaluated on: the data's own parts, else the last day, else the first fold, if any."""
    if dataset.predefined_splits:
        return FULL
    names = [name for name in dataset.split_names if name == HOLDOUT or name.startswith(FOLD)]
    return HOLDOUT if HOLDOUT in names else next(iter(names), None)
