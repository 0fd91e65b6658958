from retrieval.evaluation.summary import RetrievalData


def test_the_catalogs_size_is_read_by_its_earlier_name() -> None:
    data = RetrievalData(folder="prepared", n_items=3, n_requests=2)
    assert RetrievalData.model_validate({"folder": "prepared", "n_ads": 3, "n_requests": 2}) == data
