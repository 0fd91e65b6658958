"""Losses and metrics of the user's own that a config names by their paths.

They are imported where the user names them: in a config of their own, on the command line, or in Python. Those that
only the config of a finished run or of a prepared data set names are not: see `recsys.own_code`.
"""

from collections.abc import Iterator
from typing import Any

from recsys.config import Values
from recsys.data.split import Prior
from recsys.evaluation.own_metrics import own_metric
from recsys.evaluation.shown import EvaluationConfig
from recsys.own_code import is_path, name_object
from recsys.runs.config import EVALUATION_SECTION
from recsys.training.config import TrainerConfig
from recsys.training.losses import build_loss


def name_own_code(*sources: Values) -> None:
    """Imports the losses and metrics that the user names.

    Args:
        sources: values of configs that the user wrote, and of their overrides.

    Raises:
        InputError: if there is no such module, or no such class or function in it.
    """
    for values in sources:
        for path in _paths(values):
            name_object(path)


def paths_of(trainer: Any, evaluation: EvaluationConfig) -> list[str]:
    """The paths in the settings of a run."""
    sections = {"trainer": trainer, EVALUATION_SECTION: evaluation}
    return list(_paths({name: section.model_dump(mode="json") for name, section in sections.items()}))


def check_own_code(trainer: Any, evaluation: EvaluationConfig) -> None:
    """Checks, before the first fit, that the user named each loss and metric, and that it is one.

    Raises:
        InputError: for the first one that only a folder names, or that is no loss or metric.
    """
    if isinstance(trainer, TrainerConfig):
        build_loss(trainer.loss, Prior(1, 1))
    for path in paths_of(trainer, evaluation):
        if not isinstance(trainer, TrainerConfig) or path != trainer.loss.name:
            own_metric(path)


def _paths(values: Values) -> Iterator[str]:
    loss = _value(values, "trainer", "loss", "name")
    weights = _value(values, "trainer", "early_stopping", "weights")
    metrics = _value(values, EVALUATION_SECTION, "own_metrics")
    found = [loss, *(weights if isinstance(weights, dict) else ()), *(metrics if isinstance(metrics, list) else ())]
    return (path for path in found if isinstance(path, str) and is_path(path))


def _value(values: Any, *keys: str) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values
