import pytest

from recsys.runs.metrics import TowersFitSummary
from retrieval.evaluation.summary import IndexMetrics, RetrievalData, RetrievalMetrics, SubsetMetrics
from retrieval.evaluation.table import verdict


def test_the_catalogs_size_is_read_by_its_earlier_name() -> None:
    data = RetrievalData(folder="prepared", n_items=3, n_requests=2)
    assert RetrievalData.model_validate({"folder": "prepared", "n_ads": 3, "n_requests": 2}) == data


def metrics_of(n_items: int, **recall: float) -> RetrievalMetrics:
    metric = "recall@10" if n_items > 10 else "recall@1"
    return RetrievalMetrics(
        **{name: {metric: value} for name, value in recall.items()},
        tail=SubsetMetrics(n_requests=0),
        segments={},
        index=IndexMetrics(kind="flat", parameters={}, recall_at=6, ann_recall=1, queries_per_s=1, bytes=1),
        train=TowersFitSummary.model_construct(),
        data=RetrievalData(folder="prepared", n_items=n_items, n_requests=2),
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
