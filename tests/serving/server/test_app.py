import asyncio
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from serving.runtime import values, vocabulary
from serving.runtime.bundle import Bundle
from serving.server.formats import ARROW
from tests.helpers.serving import as_json, unseen_rows
from tests.serving.server.conftest import Client

BundleOf = Callable[[str], Bundle]


def run(scenario: Any) -> None:
    asyncio.run(scenario)


def test_scores_of_json_and_arrow_equal_those_of_the_bundle(serve: Client, bundle_of: BundleOf) -> None:
    async def scenario() -> None:
        async with serve() as (client, _):
            example = bundle_of("dcnv2").example()
            answer = await client.post("/score", json=example)
            assert answer.status_code == 200, answer.text
            expected = bundle_of("dcnv2").score(example["candidates"], example["user"])
            assert answer.json()["scale"] == "balanced"
            np.testing.assert_allclose(answer.json()["scores"], expected.q, rtol=1e-6)

            rows = unseen_rows(20)
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, rows.schema) as writer:
                writer.write_table(rows)
            headers = {"content-type": ARROW, "accept": ARROW}
            answer = await client.post("/score", content=sink.getvalue().to_pybytes(), headers=headers)
            assert answer.headers["content-type"] == ARROW
            table = pa.ipc.open_stream(answer.content).read_all()
            np.testing.assert_allclose(table["p"].to_numpy(), bundle_of("dcnv2").score(rows).p, rtol=1e-6)

    run(scenario())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user": {"color": None}}, "the request has no column"),
        ({"candidates": []}, "no candidates"),
        ({"candidates": [1]}, "candidate 0 must map"),
        ({"candidates": [{"shop": 1, "size": 1}, {"shop": 1}]}, "candidate 1 has no column 'size'"),
        ({"candidates": {"shop": [1, 2], "size": [1]}}, "1 and 2 values"),
        ({"candidates": 3}, "must be a table"),
        ({"others": 1}, "the key 'others'"),
        ({"user": []}, "user must map"),
    ],
)
def test_a_bad_request_names_the_problem(
    change: dict[str, Any], message: str, serve: Client, bundle_of: BundleOf
) -> None:
    async def scenario() -> None:
        async with serve() as (client, _):
            answer = await client.post("/score", json=bundle_of("dcnv2").example() | change)
            assert answer.status_code == 422
            assert message in answer.json()["error"]

    run(scenario())


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("x_1", "1.5", "column 'x_1' is numeric, but contains text"),
        ("x_1", True, "column 'x_1' contains values of kind boolean"),
        ("x_1", [1], "column 'x_1' has a value of type list"),
        ("time_ms", "now", "column 'time_ms' is numeric, but contains text"),
        ("color", 5, "column 'color' contains values of kind number, but the training data has text"),
        ("code", float(2**60), "not exact"),
        ("flag", "yes", "column 'flag' contains values of kind text"),
        ("when", "yesterday", "column 'when'"),
        ("seen", 5, "column 'seen' contains number, expected text"),
        ("bought", "1,2", "column 'bought' contains text, expected lists"),
        ("bought", [1, "a"], "column 'bought' must contain lists"),
        ("bought", [[1]], "column 'bought'"),
        ("profile", [1, 2], "column 'profile' has a vector with 2 numbers in row 0: write a list of 3"),
        ("profile", 5, "column 'profile' is a vector, but contains int64: write a list of 3 numbers, or null"),
    ],
)
def test_a_bad_value_names_its_column(
    column: str, value: Any, message: str, serve: Client, bundle_of: BundleOf
) -> None:
    async def scenario() -> None:
        async with serve() as (client, _):
            example = bundle_of("dcnv2").example()
            example["user"] = example["user"] | {column: value}
            answer = await client.post("/score", content=json.dumps(example))
            assert answer.status_code == 422, answer.text
            assert message in answer.json()["error"]
            assert (await client.get("/health")).json()["status"] == "ok"

    run(scenario())


def test_bodies_of_other_forms(serve: Client) -> None:
    async def scenario() -> None:
        async with serve(max_body_bytes=1024, max_candidates=2) as (client, _):
            for content, kind, status in (
                (b"{", "application/json", 422),
                (b"[]", "application/json", 422),
                (b"\xff", "application/json", 422),
                (b"", "text/plain", 422),
                (b"abc", ARROW, 422),
                (b"", ARROW, 422),
                (b" " * 1025, "application/json", 413),
            ):
                answer = await client.post("/score", content=content, headers={"content-type": kind})
                assert answer.status_code == status, content
            columns = {name: [0] * 3 for name in ("shop", "size")}
            assert (await client.post("/score", json={"candidates": columns})).status_code == 422
            assert (await client.get("/score")).status_code == 405

    run(scenario())


def test_too_many_candidates(serve: Client, bundle_of: BundleOf) -> None:
    async def scenario() -> None:
        async with serve(max_candidates=2) as (client, _):
            example = bundle_of("dcnv2").example()
            assert len(example["candidates"]) == 3
            answer = await client.post("/score", json=example)
            assert answer.status_code == 413
            assert "3 candidates, at most 2" in answer.json()["error"]
            example["candidates"] = example["candidates"][:2]
            assert (await client.post("/score", json=example)).status_code == 200

    run(scenario())


def test_requests_beyond_the_queue_get_503_and_later_ones_are_answered(
    serve: Client, bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with serve(max_waiting=3) as (client, _):
            bundle, gate, entered = bundle_of("dcnv2"), threading.Event(), threading.Event()
            encode = bundle.encode

            def blocked(request: Any) -> Any:
                entered.set()
                assert gate.wait(30)
                return encode(request)

            monkeypatch.setattr(bundle, "encode", blocked)
            example = bundle.example()
            first = asyncio.create_task(client.post("/score", json=example))
            assert await asyncio.to_thread(entered.wait, 30)
            others = [asyncio.create_task(client.post("/score", json=example)) for _ in range(8)]
            done, _ = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
            while len(done) < 5:
                done, _ = await asyncio.wait(others, timeout=0.01)
            assert {task.result().status_code for task in done} == {503}
            assert all(task.result().headers["retry-after"] == "1" for task in done)
            assert (await client.get("/health")).json()["waiting"] == 3
            gate.set()
            answers = await asyncio.gather(first, *others)
            assert sorted(answer.status_code for answer in answers) == [200] * 4 + [503] * 5
            scores = np.array([answer.json()["scores"] for answer in answers if answer.status_code == 200])
            np.testing.assert_allclose(
                scores, np.broadcast_to(scores[0], scores.shape), rtol=1e-6
            )  # sums of a batch have another order
            text = (await client.get("/metrics")).text
            assert 'gatectr_requests_total{path="/score",status="503"} 5.0' in text
            assert "gatectr_batch_requests_sum 4.0" in text

    run(scenario())


def test_a_batch_is_scored_while_another_one_is(
    serve: Client, bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with serve(batches=2) as (client, _):
            bundle, entered, both = bundle_of("dcnv2"), threading.Event(), threading.Barrier(2)
            natural_logits = bundle.natural_logits

            def met(requests: Any) -> np.ndarray:
                entered.set()
                both.wait(30)
                return natural_logits(requests)

            monkeypatch.setattr(bundle, "natural_logits", met)
            first = asyncio.create_task(client.post("/score", json=bundle.example()))
            assert await asyncio.to_thread(entered.wait, 30)
            assert (await client.post("/score", json=bundle.example())).status_code == 200
            assert (await first).status_code == 200

    run(scenario())


@pytest.mark.parametrize("model", ["din", "gbdt"])
def test_batches_at_once_do_not_change_each_other(
    model: str, serve: Client, bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        rows, bundle = as_json(unseen_rows(60).to_pylist()), bundle_of(model)
        expected = [bundle.score([row]).q[0] for row in rows]
        for module in (values, vocabulary):
            monkeypatch.setattr(module, "MAX_REMEMBERED", 3)  # tables are emptied all the time
        async with serve(model, batches=4, max_waiting=300) as (client, _):
            answers = await asyncio.gather(*(client.post("/score", json={"candidates": [row]}) for row in rows * 5))
        scores = [answer.json()["scores"][0] for answer in answers]
        np.testing.assert_allclose(scores, expected * 5, rtol=1e-4)

    run(scenario())


def test_a_swap_loses_no_request(serve: Client, bundle_of: BundleOf) -> None:
    async def scenario() -> None:
        old, new = bundle_of("dcnv2"), bundle_of("gbdt")
        example = old.example()
        expected = {bundle.spec.name: bundle.score(example["candidates"], example["user"]).q for bundle in (old, new)}
        async with serve() as (client, _):
            stop, seen = asyncio.Event(), list[httpx.Response]()

            async def ask() -> None:
                while not stop.is_set():
                    seen.append(await client.post("/score", json=example))

            clients = [asyncio.create_task(ask()) for _ in range(4)]
            for folder in (new.folder, old.folder, new.folder):
                answer = await client.post("/swap", json={"bundle": str(folder)})
                assert answer.status_code == 200, answer.text
                n_before = len(seen)
                while len(seen) < n_before + 20:
                    await asyncio.sleep(0)
            stop.set()
            await asyncio.gather(*clients)
            assert {answer.status_code for answer in seen} == {200}
            assert {answer.json()["bundle"] for answer in seen} == {old.spec.name, new.spec.name}
            for answer in seen:
                np.testing.assert_allclose(answer.json()["scores"], expected[answer.json()["bundle"]], rtol=1e-6)
            assert seen[-1].json()["bundle"] == new.spec.name

    run(scenario())


def test_a_refused_swap_keeps_the_bundle(serve: Client, bundle_of: BundleOf, tmp_path: Path) -> None:
    async def scenario() -> None:
        bundle = bundle_of("dcnv2")
        broken = bundle.folder.parent / "broken"
        shutil.copytree(bundle.folder, broken)
        (broken / "bundle.json").write_text((broken / "bundle.json").read_text().replace('"natural', '"balanced'))
        with (broken / "encoders/0_fold_0/ids.npy").open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"\x01")
        outside = tmp_path / "outside"
        shutil.copytree(bundle.folder, outside)
        async with serve() as (client, _):
            for folder, message in (
                (bundle.folder.parent / "none", "is not a bundle"),
                (broken, "damaged"),
                (outside, "is not in"),
                (Path("/"), "is not in"),
            ):
                answer = await client.post("/swap", json={"bundle": str(folder)})
                assert answer.status_code == 422
                assert message in answer.json()["error"]
            for body in (b"{", b"[]", b'{"bundle": 3}', b'{"bundle": "a\\u0000"}'):
                answer = await client.post("/swap", content=body, headers={"content-type": "application/json"})
                assert answer.status_code == 422
            answer = await client.post("/swap", content=b"{}", headers={"content-type": "text/plain"})
            assert answer.status_code == 422
            assert (await client.post("/score", json=bundle.example())).status_code == 200
        async with serve(host="10.0.0.7") as (client, _):
            assert (await client.post("/swap", json={"bundle": str(bundle.folder)})).status_code == 403
        shutil.rmtree(broken)

    run(scenario())


def test_the_page_describes_a_request_that_works(serve: Client) -> None:
    async def scenario() -> None:
        async with serve() as (client, _):
            page = (await client.get("/openapi.json")).json()
            body = page["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]
            assert (await client.post("/score", json=body["example"])).status_code == 200
            assert "color" in body["schema"]["properties"]["user"]["properties"]
            assert (await client.get("/docs")).status_code == 200
            card = (await client.get("/model")).json()["card"]
            assert card["metrics"]["overall"]["n_rows"] > 0
            assert card["parity_with_the_run"]["max_logit_difference"] < 1e-5

    run(scenario())
