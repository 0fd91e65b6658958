"""`schema.encodings: auto` in `prepare`."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys.data.dataset import PreparedDataset
from recsys.evaluation.logits import probability
from recsys.schema.config import SchemaConfig
from tests.helpers.small import prepare_small

N = 20_000
SCHEMA = {"label": "click", "id": "id", "categorical": ["color", "shop", "user"]}


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Clicks depend on the color and the shop together, and on neither alone."""
    rng = np.random.default_rng(1)
    color, shop, user = rng.integers(0, 4, N), rng.integers(0, 6, N), rng.integers(0, 2000, N)
    logit = -1.5 + np.where((color + shop) % 2 == 0, 0.8, -0.8) + rng.normal(0, 0.5, 2000)[user]
    return pa.table(
        {
            "id": np.arange(N),
            "color": pa.array([f"c{c}" for c in color]),
            "shop": shop,
            "user": pa.array(user, mask=rng.random(N) < 0.01),
            "click": (rng.random(N) < probability(logit)).astype(np.int8),
        }
    )


def prepared(table: pa.Table, folder: Path, encodings: object = "auto", **prepare: object) -> PreparedDataset:
    schema = SchemaConfig.model_validate(SCHEMA | {"encodings": encodings} | dict(prepare.pop("schema", {})))  # type: ignore[call-overload]
    return prepare_small(table, folder / "raw", folder / "out", schema, **prepare)


def test_auto_is_all_features_and_the_pair_that_has_an_effect(
    table: pa.Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = prepared(table, tmp_path / "a")
    expected = dict.fromkeys(("color", "shop", "user"), ("count", "ctr")) | {"color*shop": ("ctr",)}
    assert found.manifest.schema_.encodings == expected
    # as written: later configs are compared with it
    assert found.manifest.schema_config.encodings == "auto"
    said = " ".join(capsys.readouterr().out.split())
    assert "searched on 20,000 rows of all training rows, which folds report: color*shop" in said
    named = prepared(table, tmp_path / "b", encodings=expected)
    for name in expected:
        assert np.array_equal(found.value_counts[name].n_clicks, named.value_counts[name].n_clicks)
    # rows in another order, in several row groups
    order = np.random.default_rng(0).permutation(N)
    assert prepared(table.take(order), tmp_path / "c").manifest.schema_.encodings == expected


def test_the_choice_sees_the_tuning_part_alone(table: pa.Table, tmp_path: Path) -> None:
    """All other rows get labels with the opposite effect, so that none is left on average."""
    folds = {"tuning_share": 0.4}
    first = prepared(table, tmp_path / "a", folds=folds)
    is_tuning = first.store.groups(np.arange(N))
    assert is_tuning is not None
    tuning = np.array([group.is_tuning for group in first.groups])[is_tuning]
    ids = first.store.row_ids(np.arange(N)).cast(pa.int64()).to_numpy()
    color = np.array([int(name[1:]) for name in table["color"].to_pylist()])
    opposite = -1.5 - 0.4 / 0.6 * np.where((color + table["shop"].to_numpy()) % 2 == 0, 0.8, -0.8)
    label = table["click"].to_numpy().copy()
    others = ids[~tuning]
    label[others] = np.random.default_rng(2).random(len(others)) < probability(opposite[others])
    turned = table.set_column(table.column_names.index("click"), "click", pa.array(label))
    again = prepared(turned, tmp_path / "b", folds=folds)
    assert again.manifest.schema_.encodings == first.manifest.schema_.encodings
    assert "color*shop" in first.manifest.schema_.encodings
    without = prepared(turned, tmp_path / "c")  # the twin, which searches all rows
    assert "color*shop" not in without.manifest.schema_.encodings


def test_users_have_no_rate_where_folds_are_by_user(table: pa.Table, tmp_path: Path) -> None:
    found = prepared(table, tmp_path, schema={"user": "user"})
    assert set(found.manifest.schema_.encodings) == {"color", "shop", "color*shop"}


def test_rates_so_far_where_rows_have_an_order(table: pa.Table, tmp_path: Path) -> None:
    small, order = table.slice(0, 300), {"encodings_past": {"order": "id"}}
    so_far, both = ("past_count", "past_ctr"), ("count", "ctr", "past_count", "past_ctr")
    found = prepared(small, tmp_path / "a", schema=order | {"user": "user"})
    assert found.manifest.schema_.encodings == {"color": both, "shop": both, "user": so_far}
    assert found.store.past_counts(np.arange(300)).shape == (300, 6)
    no_features = {"categorical": [], "numeric": ["shop"]}
    assert prepared(small, tmp_path / "b", schema=order | no_features).split("full").schema.dense == ("shop",)


def test_few_clicks_have_no_pairs(table: pa.Table, tmp_path: Path) -> None:
    found = prepared(table.slice(0, 300), tmp_path)
    assert set(found.manifest.schema_.encodings) == {"color", "shop", "user"}
