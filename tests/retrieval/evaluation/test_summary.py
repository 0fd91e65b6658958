import pytest

from recsys.runs.metrics import TowersFitSummary
from recsys.system.progress import console
from retrieval.evaluation.summary import IndexMetrics, RetrievalData, RetrievalMetrics, SubsetMetrics
from retrieval.evaluation.table import print_retrieval, verdict


def test_the_catalogs_size_is_read_by_its_earlier_name() -> None:
    data = RetrievalData(folder="prepared", n_items=3, n_requests=2)
    assert RetrievalData.model_validate({"folder": "prepared", "n_ads": 3, "n_requests": 2}) == data


def test_shares_have_the_digits_that_their_standard_error_supports() -> None:
    """Of 60 requests, a share of 0.1833 has a standard error of 0.050, of 10,000 of 0.0039."""
    few = metrics_of(7, n_requests=60, two_tower=11 / 60, popularity=0.1)
    many = metrics_of(7, n_requests=10_000, two_tower=11 / 60, popularity=0.1)
    for metrics, cells in ((few, ["0.100", "0.183"]), (many, ["0.1000", "0.1833"])):
        with console.capture() as captured:
            print_retrieval(metrics, "run")
        lines = [line.strip("│ ").split("│") for line in captured.get().splitlines() if line.startswith("│")]
        assert [line[1].strip() for line in lines] == cells
        assert "index flat: recall@6 against exact search 1.0000" in captured.get()


def metrics_of(n_items: int, n_requests: int = 2, **recall: float) -> RetrievalMetrics:
    metric = "recall@10" if n_items > 10 else "recall@1"
    return RetrievalMetrics(
        **{name: {metric: value} for name, value in recall.items()},
        tail=SubsetMetrics(n_requests=0),
        segments={},
        index=IndexMetrics(kind="flat", parameters={}, recall_at=6, ann_recall=1, queries_per_s=1, bytes=1),
        train=TowersFitSummary.model_construct(n_rows_trained=1, rows_per_s=1.0),
        data=RetrievalData(folder="prepared", n_items=n_items, n_requests=n_requests),
    )


def test_the_recall_of_the_index_is_named_by_its_k() -> None:
    stored = {"kind": "flat", "parameters": {}, "queries_per_s": 1.0, "bytes": 1, "ann_recall@100": 0.5}
    assert IndexMetrics.model_validate(stored).recall_at == 100
    metrics = metrics_of(7)
    index = metrics.dump()["index"]
    assert index["ann_recall@6"] == 1
    assert IndexMetrics.model_validate(index) == metrics.index


@pytest.mark.parametrize(
    ("n_items", "recall", "message"),
    [
        (50, {"two_tower": 0.3, "popularity": 0.1, "item_knn": 0.2}, None),
        (50, {"two_tower": 0.2, "popularity": 0.1, "item_knn": 0.2}, "recall@10 of 0.2000 is not above 0.2000 of the "),
        (
            50,
            {"two_tower": 0.1, "popularity": 0.1, "item_knn": 0.2},
            "baseline item_knn: use the baseline, or try model.p",
        ),
        (50, {"two_tower": 0.1, "popularity": 0.2}, "baseline popularity: use the baseline, or try more epochs"),
        (5, {"two_tower": 0.1, "popularity": 0.2}, "two_tower's recall@1 of 0.1000 is not above"),
        (1, {"two_tower": 0.1, "popularity": 0.2}, None),
    ],
)
def test_a_model_below_a_baseline_is_said_to_be(n_items: int, recall: dict[str, float], message: str | None) -> None:
    line = verdict(metrics_of(n_items, **recall))
    assert line is None if message is None else message in (line or "")
