import pytest

from recsys.evaluation.metrics import Metrics
from recsys.evaluation.shown import (
    counted,
    format_interval,
    format_metric,
    format_metrics,
    named_metrics,
    shown_metrics,
)


@pytest.mark.parametrize(
    ("value", "sd", "text"),
    [
        (0.781234, 0.0123, "0.781"),  # the deviation is 0.012
        (0.781234, 0.00456, "0.7812"),  # 0.0046
        (0.781234, 0.0996, "0.78"),  # 0.10
        (0.781234, 0.5, "0.78"),
        (0.781234, 12.0, "1"),
        (0.0123, 0.0123, "0.012"),  # a deviation itself
        (0.0996, 0.0996, "0.10"),
        (0.5, 1e-9, "0.500000"),  # at most six decimals
        (0.781234, 0.0, "0.7812"),
        (0.781234, None, "0.7812"),
        (1.0, None, "1.0000"),
        (0.00347, None, "0.0035"),
        (0.000456, None, "0.00046"),
        (0.0000123, None, "0.000012"),
        (0.00000123, None, "1.2e-06"),
        (0.0, None, "0.0000"),
        (None, 0.1, "-"),
        (float("nan"), None, "-"),
        (float("inf"), None, "-"),
        (0.5, float("nan"), "0.5000"),
    ],
)
def test_digits_by_hand(value: float | None, sd: float | None, text: str) -> None:
    assert format_metric(value, sd) == text


def test_signs_of_differences() -> None:
    assert format_metric(0.00123, 0.0004, "+") == "+0.00123"
    assert format_metric(-0.00123, None, "+") == "-0.0012"
    assert format_interval(-0.0392, 0.0392) == "-0.039 .. +0.039"  # sd 0.020


def test_the_toss_score_is_shown_where_it_is_named() -> None:
    standard = ("logloss", "roc_auc", "ap", "ece")
    assert shown_metrics(()) == standard
    assert shown_metrics(("roc_auc",)) == standard
    assert shown_metrics(("pr_auc", "ap")) == (*standard, "pr_auc")
    assert shown_metrics(("ne",)) == ("logloss", "ne", "roc_auc", "ap", "ece")
    assert shown_metrics((), has_users=True) == ("logloss", "roc_auc", "gauc", "ap", "ece")
    assert shown_metrics(("toss_score",)) == (*standard, "wll", "pr_auc", "toss_score")


def test_the_metric_to_choose_by_is_the_first_named() -> None:
    assert named_metrics(None, {"toss_score": 1.0}) == ("toss_score",)
    assert named_metrics("ap", {"toss_score": 1.0}) == ("ap", "toss_score")
    assert named_metrics(None, {"ap": 0.5, "wll": -0.5}) == ("logloss", "ap", "wll")
    assert named_metrics(None, ()) == ("logloss",)


def test_a_row_of_metrics() -> None:
    metrics = Metrics(n_rows=10, n_positive=0, logloss=0.123456)
    assert format_metrics(metrics, ("logloss", "roc_auc"), {"logloss": 0.02}) == ["0.123", "-"]
    assert (metrics.signed("logloss"), metrics.signed("roc_auc")) == (-0.123456, float("-inf"))


def test_a_single_thing_is_written_in_the_singular() -> None:
    assert [counted(n, "step") for n in (0, 1, 1234)] == ["0 steps", "1 step", "1,234 steps"]
