"""Two stages in one bundle: the towers' candidates, ranked by the models."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipelines.export import export
from pipelines.prepare import prepare_command
from pipelines.retrieval import retrieval
from pipelines.retrieve import open_retriever
from recsys.errors import InputError
from serving.runtime.bundle import Bundle
from serving.runtime.recommend import Recommender
from serving.server.app import Service, create_app
from serving.server.config import ServerConfig
from tests.helpers.serving import prepare_data, train, unseen_rows

USER = ("color", "seen", "bought", "x_1", "x_2", "x_10", "profile")
OTHERS = ("code", "flag", "when", "time_ms", "is_new")
"""Columns that the towers do not read, but the ranking models do."""
SIZES = ["model.embedding_dim=4", "model.output_dim=6", "model.user_hidden_dims=[8]", "model.item_hidden_dims=[8]"]
SETTINGS = [*SIZES, "trainer.epochs=1", "trainer.precision=fp32"]
RecommenderOf = Callable[[str], Recommender]


def exported(towers: Path, models: Path, prepared: Path, pooling: str) -> Recommender:
    retrieval(data=prepared, out=towers, overrides=[f"model.pooling={pooling}", *SETTINGS])
    out = towers.with_name(f"{towers.name}-bundle")
    export(run=models, out=out, retrieval=towers)
    recommender = Recommender.load(Bundle.load(out, n_threads=1))
    assert recommender is not None
    return recommender


@pytest.fixture(scope="module")
def recommender_of(prepared: Path, run_of: Callable[[str], Path]) -> RecommenderOf:
    """`recommender_of("mean")` has towers with this pooling, and ranks with DCN V2."""
    loaded: dict[str, Recommender] = {}

    def recommender(pooling: str) -> Recommender:
        if pooling not in loaded:
            loaded[pooling] = exported(prepared.with_name(f"towers-{pooling}"), run_of("dcnv2"), prepared, pooling)
        return loaded[pooling]

    return recommender


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared rows of 60 users with the history of their earlier items, and trees that rank them."""
    folder, rng = tmp_path_factory.mktemp("log"), np.random.default_rng(0)
    user, n = np.repeat(np.arange(60), 20), 1200
    rows = pa.table(
        {
            "user": user,
            "film": rng.zipf(1.6, n).clip(max=40),
            "time": np.arange(n),
            "day": np.tile(np.repeat([1, 2, 3, 4], 5), 60),
            "click": (rng.random(n) < 0.5).astype(np.int8),
        }
    )
    pq.write_table(rows, folder / "train.parquet")
    schema = {
        "label": "click",
        "day": "day",
        "categorical": ["user", "film"],
        "sequences": {"history": {"kind": "log", "key": "user", "item": "film", "order": "time", "max_length": 6}},
        "target_item": "film",
        "towers": {"user": ["user", "history"], "item": ["film"]},
    }
    config = {"name": "log", "files": {"train": ["train.parquet"], "folder": str(folder)}, "schema": schema}
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"prepare": {"min_count": 1, "n_folds": 2}}))
    prepared = folder / "prepared"
    prepare_command(train=[str(folder / "train.parquet")], config=folder / "config.yaml", out=prepared)
    train("gbdt", prepared, folder / "trees")
    return prepared


def requests() -> list[dict[str, Any]]:
    return unseen_rows(40).select([*USER, *OTHERS]).to_pylist()


def check_candidates(recommender: Recommender, towers: Path, table: pa.Table, path: Path) -> None:
    """The items and scores of requests are those that `pipelines.retrieve` writes."""
    pq.write_table(table, path)
    retriever = open_retriever(towers)
    (expected,) = list(retriever.retrieve(retriever.open_requests([path]), k=len(retriever.names)))
    scores, items = (expected[name].to_numpy().reshape(table.num_rows, -1) for name in ("score", "item"))
    for user, of_user, item in zip(table.to_pylist(), scores, items, strict=True):
        found, largest = recommender.candidates(user, n=5, exclude="none"), np.abs(of_user).max()
        score_of = dict(zip(item.tolist(), of_user / largest, strict=True))
        own = [score_of[name] for name in found.items.to_pylist()]  # equal ones may be in another order
        np.testing.assert_allclose(own, of_user[:5] / largest, atol=1e-4)
        np.testing.assert_allclose(found.retrieval_score * own[0] / found.retrieval_score[0], own, atol=1e-4)


@pytest.mark.parametrize("pooling", [pytest.param("mean", marks=pytest.mark.slow), "attention", "last"])
def test_candidates_are_those_of_the_retrieval_run(
    pooling: str, recommender_of: RecommenderOf, prepared: Path, tmp_path: Path
) -> None:
    table = unseen_rows(40).select([*USER, *OTHERS])
    check_candidates(
        recommender_of(pooling), prepared.with_name(f"towers-{pooling}"), table, tmp_path / "requests.parquet"
    )


@pytest.mark.parametrize("pooling", [pytest.param("causal", marks=pytest.mark.slow), "sasrec", "ligr", "hstu"])
def test_histories_are_encoded_like_in_the_retrieval_run(pooling: str, log: Path, tmp_path: Path) -> None:
    towers = log.with_name(f"towers-{pooling}")
    recommender = exported(towers, log.with_name("trees"), log, pooling)
    rng = np.random.default_rng(1)
    history = [rng.integers(1, 45, length).tolist() for length in rng.integers(0, 10, 30)]
    table = pa.table({"user": np.arange(45, 75), "history": pa.array(history, pa.list_(pa.int64()))})
    check_candidates(recommender, towers, table, tmp_path / "requests.parquet")
    found = recommender.candidates({"user": 3, "history": history[1]}, n=40)
    assert not {str(item) for item in history[1][-6:]} & set(found.items.to_pylist())


def test_candidates_are_ranked_by_the_models_and_seen_items_left_out(recommender_of: RecommenderOf) -> None:
    recommender = recommender_of("mean")
    n_items = len(recommender.candidates(requests()[0], n=1000, exclude="none").items)
    for user in requests()[:10]:
        seen = {str(item) for item in user["bought"] or [] if item is not None}
        found = recommender.candidates(user, n=1000)
        assert not seen & set(found.items.to_pylist())
        assert len(found.items) >= n_items - 4
        best = recommender.recommend(user, k=3, n_candidates=20)
        top = recommender.candidates(user, n=20)
        p = recommender.bundle.score(pa.table(top.columns), user).p
        order = np.argsort(-p, kind="stable")[:3]
        assert best.items.to_pylist() == [top.items[int(index)].as_py() for index in order]
        np.testing.assert_allclose(best.scores.p, p[order])


def test_items_have_the_columns_of_their_training_rows(tmp_path: Path) -> None:
    """An item that is rare is scored like one, although the prepared data has forgotten its name."""
    prepared = prepare_data(tmp_path / "data", encodings={"color": ["past_ctr"]})
    recommender = exported(tmp_path / "towers", train("dcnv2", prepared, tmp_path / "crosses"), prepared, "mean")
    user = requests()[0]
    found = recommender.candidates(user, n=1000, exclude="none")
    vocabulary = set(pa.array(found.columns["shop"]).to_pylist())
    rare = [i for i, name in enumerate(found.items.to_pylist()) if float(name) not in vocabulary]
    assert rare
    scored = recommender.bundle.score(pa.table(found.columns), user).logit
    unknown = dict(found.columns) | {"shop": pa.array([123456.0] * len(found.items))}
    as_unknown = recommender.bundle.score(pa.table(unknown), user).logit
    np.testing.assert_allclose(scored[rare], as_unknown[rare], rtol=1e-6)


def test_the_server_recommends(recommender_of: RecommenderOf, bundle_of: Callable[[str], Bundle]) -> None:
    recommender, user = recommender_of("last"), requests()[5]
    user["when"] = user["when"].isoformat()

    async def ask(bundle: Bundle, **body: object) -> httpx.Response:
        service = Service(ServerConfig(bundle=bundle.folder, max_candidates=300), bundle)
        transport = httpx.ASGITransport(create_app(service))
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.post("/recommend", json=body)
        finally:
            service.batcher.end()

    answer = asyncio.run(ask(recommender.bundle, user=user, k=3))
    assert answer.status_code == 200, answer.text
    expected = recommender.recommend(user, k=3)
    assert answer.json()["items"] == expected.items.to_pylist()
    np.testing.assert_allclose(answer.json()["p"], expected.scores.p, rtol=1e-6)
    for body, status, message in (
        ({"user": {"color": "red"}}, 422, "has no column"),
        ({"k": 3}, 422, "user"),
        ({"user": user, "k": 0}, 422, "k"),
        ({"user": user, "candidates": 301}, 413, "at most 300"),
        ({"user": user, "kk": 1}, 422, "kk"),
    ):
        answer = asyncio.run(ask(recommender.bundle, **body))
        assert answer.status_code == status, (body, answer.text)
        assert message in answer.json()["error"]
    answer = asyncio.run(ask(bundle_of("dcnv2"), user=user))
    assert answer.status_code == 422
    assert "--retrieval" in answer.json()["error"]


def test_towers_of_other_data_are_refused(prepared: Path, tmp_path: Path, recommender_of: RecommenderOf) -> None:
    other = prepare_data(tmp_path / "other", towers={"user": ["color"], "item": ["shop", "size"]})
    train("gbdt", other, tmp_path / "trees")
    recommender_of("mean")
    towers = prepared.with_name("towers-mean")
    with pytest.raises(InputError, match="was not trained on"):
        export(run=tmp_path / "trees", out=tmp_path / "bundle", retrieval=towers)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("user", [["color"], ["color", "seen", "x_*"], ["bought"]])
def test_towers_with_few_features(user: list[str], tmp_path: Path) -> None:
    """No sequence, one that is averaged with the ids, and nothing but a history of items."""
    prepared = prepare_data(tmp_path / "data", towers={"user": user, "item": ["shop", "size", "image"]})
    train("gbdt", prepared, tmp_path / "trees")
    recommender = exported(tmp_path / "towers", tmp_path / "trees", prepared, "mean")
    table = unseen_rows(40).select([*USER, *OTHERS])
    check_candidates(recommender, tmp_path / "towers", table, tmp_path / "requests.parquet")
