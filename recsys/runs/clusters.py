"""What a bootstrap of a run's rows draws: users where they are known, otherwise rows."""

import numpy as np

from recsys.errors import InputError
from recsys.evaluation.comparison import By
from recsys.runs.predictions import RunPredictions


def clusters_of(rows: RunPredictions, by: By | None) -> tuple[By, np.ndarray | None]:
    """What the bootstrap draws, and the [n] user or day of each row; None for rows.

    Raises:
        InputError: if users or days are asked for and unknown.
    """
    columns = {"user": rows.predictions.user, "day": rows.predictions.day, "row": None}
    drawn: By = by or ("row" if columns["user"] is None else "user")
    if drawn != "row" and columns[drawn] is None:
        raise InputError(
            f"oof.csv of {rows.name} has no column {drawn}: name schema.{drawn} in the config, prepare and rank again, "
            "or pass --by row"
        )
    return drawn, columns[drawn]
