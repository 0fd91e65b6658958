"""Requests that name a user are scored as if they sent the columns that the file of users has."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys.errors import InputError
from serving.runtime.bundle import Bundle
from serving.server.users import UserStore
from tests.serving.server.conftest import Client

BundleOf = Callable[[str], Bundle]


@pytest.fixture
def example(bundle_of: BundleOf) -> dict[str, Any]:
    return bundle_of("din").example()


@pytest.fixture
def users(example: dict[str, Any], tmp_path: Path) -> Path:
    """The example's user as u1, and u2 without values."""
    columns = {name: [value, None] for name, value in example["user"].items()}
    pq.write_table(pa.table({"who": ["u1", "u2"]} | columns), tmp_path / "users.parquet")
    return tmp_path / "users.parquet"


def test_stored_columns_are_those_of_the_request(
    serve: Client, bundle_of: BundleOf, example: dict[str, Any], users: Path
) -> None:
    candidates, bundle = example["candidates"], bundle_of("din")
    stored_name = next(name for name, value in example["user"].items() if value is not None)

    async def scenario() -> None:
        async with serve("din", users=users, user_key="who") as (client, service):

            async def scores(user: dict[str, Any]) -> np.ndarray:
                answer = await client.post("/score", json={"user": user, "candidates": candidates})
                assert answer.status_code == 200, answer.text
                return np.array(answer.json()["scores"])

            whole = await scores(example["user"])
            np.testing.assert_array_equal(await scores({"who": "u1"}), whole)
            nulls = bundle.score(candidates, dict.fromkeys(example["user"])).q
            np.testing.assert_allclose(await scores({"who": "u2"}), nulls, rtol=1e-6)
            np.testing.assert_allclose(await scores({"who": "nobody"}), nulls, rtol=1e-6)
            changed = example["user"] | {stored_name: None}
            np.testing.assert_array_equal(await scores({"who": "u1", stored_name: None}), await scores(changed))
            missing = await client.post("/score", json={"user": {}, "candidates": candidates})
            assert missing.status_code == 422

            # the file of another day, read again with the bundle
            pq.write_table(pq.read_table(users).slice(1), users)
            await service.swap(bundle.folder)
            np.testing.assert_allclose(await scores({"who": "u1"}), nulls, rtol=1e-6)

    asyncio.run(scenario())


def test_keys_are_text_or_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "users.parquet"
    pq.write_table(pa.table({"id": [7, 8], "seen": [[1, 2], []]}), path)
    store = UserStore(path, "id")
    assert len(store) == 2
    assert store.fill({"id": 7}) == store.fill({"id": 7, "seen": [1, 2]}) == {"id": 7, "seen": [1, 2]}
    assert store.fill({"id": "8", "hour": 3}) == {"id": "8", "seen": [], "hour": 3}
    assert store.fill({"id": 9}) == {"id": 9, "seen": None}
    assert store.fill({"id": None}) == {"id": None}
    assert store.fill(None) is None


@pytest.mark.parametrize(
    ("columns", "key", "message"),
    [
        ({"user": ["a", "b"]}, "usr", "no column 'usr'; did you mean 'user'"),
        ({"user": ["a", "a"]}, "user", "has the user 'a' twice"),
        ({"user": ["a", None]}, "user", "user has 1 null values"),
        ({"user": [1.5, 2.0]}, "user", "has the type double, expected whole numbers or text"),
    ],
)
def test_wrong_files_are_refused(columns: dict[str, list[Any]], key: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "users.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(InputError, match=message):
        UserStore(path, key)
    (tmp_path / "text.parquet").write_text("user\na\n")
    with pytest.raises(InputError, match="not a readable parquet file"):
        UserStore(tmp_path / "text.parquet", "user")


def test_a_key_must_be_named(serve: Client, users: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(InputError, match="--user-key"):
            async with serve(users=users):
                pass

    asyncio.run(scenario())
