from typing import Any

from recsys.evaluation.metrics import Metrics
from recsys.runs.metrics import RunMetrics, StackSummary
from recsys.runs.summary import print_summary, spread
from recsys.system.progress import console


def figures(roc_auc: float, n_rows: int = 1000) -> Metrics:
    return Metrics(n_rows=n_rows, n_positive=100, logloss=0.31, roc_auc=roc_auc, ap=0.2, ece=0.01, toss_score=0.4)


def printed(folds: dict[str, Metrics], **values: Any) -> list[list[str]]:
    """The cells of the printed table, row by row."""
    defaults: dict[str, Any] = {"segments": {}, "train": StackSummary(fits={}), "named_metrics": ("logloss",)}
    overall = values.pop("overall", figures(0.75, 1000 * len(folds)))
    metrics = RunMetrics(overall=overall, folds=folds, spread=spread(list(folds.values())), **(defaults | values))
    with console.capture() as captured:
        print_summary(metrics, "run")
    lines = [line.replace("┃", "│").strip("│ ") for line in captured.get().splitlines() if line[:1] in ("│", "┃")]
    return [[cell.strip() for cell in line.split("│")] for line in lines]


def test_folds_are_followed_by_their_summary() -> None:
    """The ROC-AUC of the folds has a standard deviation of 0.014: three decimals."""
    table = printed({"0": figures(0.74123), "1": figures(0.76123)})
    assert table[0] == ["subset", "rows", "positive", "log loss", "ROC-AUC", "AP", "ECE"]
    assert [cells[0] for cells in table[1:]] == ["fold 0", "fold 1", "overall", "mean over folds", "sd over folds"]
    assert [cells[4] for cells in table[1:]] == ["0.741", "0.761", "0.750", "0.751", "0.014"]
    assert [cells[1] for cells in table[1:]] == ["1,000", "1,000", "2,000", "", ""]


def test_a_single_split_is_printed_once() -> None:
    assert [cells[0] for cells in printed({"0": figures(0.7)})[1:]] == ["fold 0"]
    test = figures(0.75)
    splits = printed({"test": test}, splits={"valid": figures(0.7), "test": test})
    assert [cells[0] for cells in splits[1:]] == ["valid", "test"]


def test_baselines_and_segments_follow() -> None:
    table = printed(
        {"test": figures(0.75)},
        baselines={"constant rate": figures(0.5)},
        bayes=figures(0.8),
        segments={"user": {"known": figures(0.7, 600), "new": figures(0.6, 400)}},
        named_metrics=("toss_score",),
    )
    assert [cells[0] for cells in table[1:]] == ["test", "constant rate", "best possible", "user: known", "user: new"]
    assert table[0][-1] == "Toss score"  # WLL and PR-AUC, which no row has, are left out
    assert "WLL" not in table[0]


def test_segments_without_rows_or_with_all_of_them_are_left_out() -> None:
    empty = Metrics(n_rows=0, n_positive=0)
    segments = {
        "users": {"known": empty, "new": figures(0.75)},
        "city": {"a": figures(0.7, 400), "b": empty, "c": figures(0.8, 600)},
    }
    assert [cells[0] for cells in printed({"test": figures(0.75)}, segments=segments)[1:]] == [
        "test", "city: a", "city: c",
    ]  # fmt: skip


def test_no_rows_give_no_table() -> None:
    assert printed({}, overall=Metrics(n_rows=0, n_positive=0)) == []
