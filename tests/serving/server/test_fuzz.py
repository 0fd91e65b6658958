"""No request makes the server fail: each gets scores, or a status that says what is wrong with it."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.runtime.bundle import Bundle
from serving.server.app import Service, create_app
from serving.server.config import ServerConfig

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-5, 40),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["red", "1,2,,3", "2025-01-01T03:00:00", "NaN", "1e400", "\ud800", "\x00", "05", "5.0"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["user", "candidate", "columns", "drop", "body", "key"]), st.integers(0, 30), VALUES, SCALARS
    ),
    min_size=1,
    max_size=4,
)


def changed(example: dict[str, Any], changes: list[tuple[str, int, Any, Any]]) -> Any:
    """A request that differs from one that works in a few places."""
    body: Any = json.loads(json.dumps(example))
    for place, number, value, scalar in changes:
        user, candidates = body["user"], body["candidates"]
        if place == "body":
            return value
        if place == "key":
            body["user" if number % 2 else "candidates"] = value
            return body
        if place == "columns" and isinstance(candidates, list):
            names = list(candidates[0])
            body["candidates"] = {name: [row.get(name) for row in candidates] for name in names}
            body["candidates"][names[number % len(names)]] = value
            return body
        target = user if place in ("user", "drop") else candidates[number % len(candidates)]
        name = list(example["user"] if place in ("user", "drop") else example["candidates"][0])
        key = name[number % len(name)]
        if place == "drop":
            target.pop(key, None)
        else:
            target[key] = value if number % 3 else scalar
    return body


def check(bundle: Bundle, body: bytes, content_type: str) -> None:
    async def send() -> httpx.Response:
        service = Service(ServerConfig(bundle=bundle.folder, max_body_bytes=4096, max_candidates=50), bundle)
        transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.post("/score", content=body, headers={"content-type": content_type})
        finally:
            service.batcher.end()

    answer = asyncio.run(send())
    assert answer.status_code in (200, 413, 422), (answer.status_code, body)
    if answer.status_code == 200:
        scores = np.array(answer.json()["scores"])
        assert len(scores) >= 1
        assert ((scores >= 0) & (scores <= 1)).all()
    else:
        assert len(answer.json()["error"]) > 10


def fuzz(bundle: Bundle, n: int) -> None:
    example = bundle.example()

    @settings(max_examples=n, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
    @given(CHANGES)
    def any_json(changes: list[tuple[str, int, Any, Any]]) -> None:
        body = json.dumps(changed(example, changes)).encode("utf-8", "surrogatepass")
        check(bundle, body, "application/json")

    @settings(max_examples=max(1, n // 10), deadline=None, derandomize=True, database=None)
    @given(st.binary(max_size=300), st.sampled_from(["application/json", "application/vnd.apache.arrow.stream", "x"]))
    def any_bytes(body: bytes, content_type: str) -> None:
        check(bundle, body, content_type)

    any_json()
    any_bytes()


@pytest.mark.parametrize("model", ["dcnv2", "din"])
def test_some_requests(model: str, bundle_of: Callable[[str], Bundle]) -> None:
    fuzz(bundle_of(model), 100)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["dcnv2", "din"])
def test_many_requests(model: str, bundle_of: Callable[[str], Bundle]) -> None:
    fuzz(bundle_of(model), 2000)
