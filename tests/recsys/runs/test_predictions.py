"""Users and days of predictions: in oof.csv, in selections and in joined folds."""

import numpy as np
import pytest

from recsys.evaluation.logits import Logits
from recsys.runs.predictions import Predictions, join


def fold(name: str, rows: list[int], user: list[int] | None) -> Predictions:
    label, logit = np.array([row % 2 for row in rows]), np.array(rows, np.float64)
    users = None if user is None else np.array(user)
    return Predictions.of_fold(name, np.array(rows), label, Logits.of_one_fit(logit, 0.0), user=users)


def test_users_follow_their_rows() -> None:
    joined = join([fold("0", [4, 1], [7, -1]), fold("1", [2], [7])])
    assert joined.user is not None
    assert joined.user.tolist() == [7, -1, 7]
    selected = joined.take(np.array([2, 1])).user
    assert selected is not None
    assert selected.tolist() == [7, -1]
    assert joined.day is None
    assert join([fold("0", [4], None)]).user is None


def test_metrics_of_users_need_users() -> None:
    # User 1: the click is above the other row; user 0: below.
    assert fold("0", [2, 3, 6, 5], [1, 1, 0, 0]).measure().gauc == pytest.approx(0.5)
    assert fold("0", [2, 3, 6, 5], None).measure().gauc is None
