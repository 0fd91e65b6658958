"""The index against brute force."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from recsys.errors import InputError
from recsys.system.files import read_json, write_json
from retrieval.config import IndexConfig
from retrieval.index import ItemIndex, build_index, choose_kind, exact_search, load_index, recall_of
from tests.helpers.vectors import ITEMS, QUERIES, brute_force


def test_flat_agrees_with_brute_force() -> None:
    index = build_index(ITEMS, IndexConfig(kind="flat"))
    scores, places = index.search(QUERIES, 20)
    assert np.array_equal(places, brute_force(ITEMS, QUERIES, 20))
    np.testing.assert_allclose(scores, np.take_along_axis(QUERIES @ ITEMS.T, places, axis=1), rtol=1e-5)


def test_exact_search_goes_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.index._BLOCK", 700)
    assert np.array_equal(exact_search(ITEMS, QUERIES, 20), brute_force(ITEMS, QUERIES, 20))


@pytest.mark.parametrize("kind", ["ivf_flat", "hnsw"])
def test_effort_is_the_smallest_that_reaches_the_wanted_recall(kind: str) -> None:
    index = build_index(ITEMS, IndexConfig.model_validate({"kind": kind, "wanted_recall": 0.9}), queries=QUERIES)
    exact = exact_search(ITEMS, QUERIES, 100)
    assert recall_of(index, QUERIES, exact) >= 0.9
    if kind == "ivf_flat":
        assert 1 < index.parameters["n_probe"] < index.parameters["n_lists"]
        index.set_search_parameter(index.parameters["n_probe"] - 1)
        assert recall_of(index, QUERIES, exact) < 0.9 + 0.005


def test_product_quantization_uses_the_configured_bytes() -> None:
    index = build_index(ITEMS, IndexConfig(kind="ivf_pq", pq_bytes=4, n_lists=10, n_probe=10))
    assert index.parameters == {"n_lists": 10, "n_probe": 10, "pq_bytes": 4}
    assert recall_of(index, QUERIES, exact_search(ITEMS, QUERIES, 100)) > 0.4


def test_hnsw_uses_the_configured_links_and_efforts() -> None:
    config = IndexConfig(kind="hnsw", hnsw_links=8, ef_construction=20, ef_search=30)
    index = build_index(ITEMS, config)
    assert index.index.hnsw.efConstruction == 20
    assert index.index.hnsw.efSearch == 30
    assert index.index.hnsw.nb_neighbors(1) == 8


def test_auto_is_exact_for_few_items_and_lists_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    assert build_index(ITEMS, IndexConfig()).kind == "flat"
    monkeypatch.setattr("retrieval.index._MAX_FLAT_ITEMS", 1000)
    assert build_index(ITEMS, IndexConfig()).kind == "ivf_flat"


def test_the_same_seed_gives_the_same_index() -> None:
    config = IndexConfig(kind="ivf_flat", n_lists=20, n_probe=3)
    a, b = (build_index(ITEMS, config, seed=3).search(QUERIES, 10)[1] for _ in range(2))
    assert np.array_equal(a, b)


def test_fewer_items_than_k() -> None:
    _, places = build_index(ITEMS[:3], IndexConfig()).search(QUERIES[:2], 5)
    assert np.array_equal(np.sort(places, axis=1), [[-1, -1, 0, 1, 2]] * 2)
    assert exact_search(ITEMS[:3], QUERIES[:2], 5).shape == (2, 3)


def test_no_items() -> None:
    with pytest.raises(InputError, match="the catalog is empty"):
        build_index(ITEMS[:0], IndexConfig())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (IndexConfig(kind="ivf_flat", n_lists=4000), "n_lists=4000 is more than the 3000 items"),
        (IndexConfig(kind="ivf_pq", n_lists=4000), "n_lists=4000 is more than the 3000 items"),
        (
            IndexConfig(kind="ivf_pq", pq_bytes=5),
            "pq_bytes=5 must divide the vectors' width 16: .*1, 2, 4, 8, 16, or null",
        ),
    ],
)
def test_invalid_index_parameters_are_refused(config: IndexConfig, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_index(ITEMS, config)


@pytest.mark.parametrize("width", [1, 2, 65])
@pytest.mark.parametrize("n", [1, 2, 5, 100, 300])
def test_a_catalog_of_any_size_has_every_kind_of_index(n: int, width: int, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    items, queries = (rng.normal(size=(rows, width)).astype(np.float32) for rows in (n, 20))
    exact = exact_search(items, queries, 100)
    for kind in ("auto", "flat", "ivf_flat", "ivf_pq", "hnsw"):
        config = IndexConfig.model_validate({"kind": kind})
        index = build_index(items, config, queries=queries)
        assert index.kind == choose_kind(config, n, width)
        assert recall_of(index, queries, exact) > 0.8
    assert capfd.readouterr().err == ""  # faiss warns of small clusters
    assert choose_kind(IndexConfig(kind="ivf_pq"), n, width) == ("flat" if n < 256 else "ivf_pq")


def test_product_quantization_pads_an_odd_width(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """64 dimensions and the popularity prior: the default settings have 33 bytes for 66 dimensions."""
    rng = np.random.default_rng(0)
    items, queries = rng.normal(size=(400, 65)).astype(np.float32), rng.normal(size=(50, 65)).astype(np.float32)
    index = build_index(items, IndexConfig(kind="ivf_pq", n_lists=4, n_probe=99), queries=queries)
    assert index.parameters == {"n_lists": 4, "n_probe": 4, "pq_bytes": 33}
    scores, places = index.search(queries, 10)
    products = np.take_along_axis(queries @ items.T, places, axis=1)
    assert np.corrcoef(scores.ravel(), products.ravel())[0, 1] > 0.9
    assert index.save(tmp_path, "towers-1").width == 65
    assert np.array_equal(load_index(tmp_path).search(queries, 10)[1], places)
    build_index(items[:200], IndexConfig(kind="ivf_pq"))
    assert "index.kind=ivf_pq needs 256 items, there are 200: the index is exact" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["flat", "ivf_flat", "ivf_pq", "hnsw"])
def test_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    index = build_index(ITEMS, IndexConfig.model_validate({"kind": kind}))
    described = index.save(tmp_path, "towers-1")
    assert described.n_vectors == 3000
    assert described.n_bytes == (tmp_path / "index.faiss").stat().st_size
    again = load_index(tmp_path, "towers-1")
    assert again.parameters == index.parameters == described.parameters
    for mine, theirs in zip(index.search(QUERIES, 10), again.search(QUERIES, 10), strict=True):
        assert np.array_equal(mine, theirs)


def test_an_index_of_other_towers_or_other_bytes_is_refused(tmp_path: Path) -> None:
    build_index(ITEMS, IndexConfig()).save(tmp_path, "towers-1")
    with pytest.raises(InputError, match="vectors of other towers"):
        load_index(tmp_path, "towers-2")
    path = tmp_path / "index.faiss"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="does not match index.json"):
        load_index(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match="index.faiss is missing"):
        load_index(tmp_path)
    write_json(tmp_path / "index.json", read_json(tmp_path / "index.json") | {"kind": "magic"})
    with pytest.raises(InputError, match="kind"):
        load_index(tmp_path)


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="this faiss is built for GPUs")
def test_missing_gpu_is_an_error() -> None:
    with pytest.raises(InputError, match="install faiss-gpu"):
        ItemIndex("flat", faiss.IndexFlatIP(4), "gpu")
