"""Configs with the key names of earlier versions: read as today's names, with a hint."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.common.config import load_rank_config, load_retrieval_config
from pipelines.plan.config import load_plan
from recsys.errors import InputError, RenamedWarning
from tests.helpers.small import SMALL_SCHEMA
from tests.helpers.towers import TOWERS, tower_schema

DATA = {"name": "small", "files": {"train": ["train.parquet"]}, "schema": SMALL_SCHEMA | tower_schema()}
OLD_TOWERS = {"user": TOWERS["user"], "ad": TOWERS["item"]}
PLAN = {
    "name": "plan",
    "config": "config.yaml",
    "reference": "a",
    "steps": [{"step": 1, "do": "rank", "name": name, "model": "dcnv2"} for name in ("a", "b")],
}
GATE = {"kind": "comparison", "candidate": "b", "baselines": ["a"], "any_of": [{"metric": "ap", "gain": 0}]}


def rank(path: Path) -> Any:
    return load_rank_config(path, "dcnv2", [])


def retrieval(path: Path) -> Any:
    return load_retrieval_config(path, [])


def plan(path: Path) -> Any:
    return load_plan(path, ())


def nested(keys: str, value: object) -> dict[str, Any]:
    """{"a": {"b": value}} for the keys a.b."""
    for key in reversed(keys.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize(
    ("load", "old", "new"),
    [
        (rank, {"schema": DATA["schema"] | {"towers": OLD_TOWERS}}, {"schema": DATA["schema"] | {"towers": TOWERS}}),
        (
            rank,
            nested("trainer.early_stopping.holdout_fraction", 0.2),
            nested("trainer.early_stopping.validation_fraction", 0.2),
        ),
        (
            rank,
            nested("trainer.early_stopping.weights", {"score": 1.0}),
            nested("trainer.early_stopping.weights", {"toss_score": 1.0}),
        ),
        (rank, nested("plan_only.num_embeddings", {"shop": 9}), nested("show_sharding.num_embeddings", {"shop": 9})),
        (retrieval, nested("retrieval.hits", "all"), nested("retrieval.positives", "all")),
        (
            retrieval,
            nested("retrieval.trainer.loss", {"shown": "negative", "shown_per_hit": 2, "shown_weight": 0.5}),
            nested(
                "retrieval.trainer.loss",
                {"impressions": "negative", "impressions_per_positive": 2, "impression_weight": 0.5},
            ),
        ),
        (
            retrieval,
            nested("retrieval.trainer.loss.all_ads", True),
            nested("retrieval.trainer.loss.full_catalog", True),
        ),
        (
            retrieval,
            nested("retrieval.model.ad_hidden_dims", [8]),
            nested("retrieval.model.item_hidden_dims", [8]),
        ),
        (
            plan,
            {"gates": {"A": GATE | {"says": "Better?", "judged": "last_day"}}},
            {"gates": {"A": GATE | {"description": "Better?", "evaluate_on": "holdout"}}},
        ),
        (
            plan,
            {"gates": {"A": GATE | {"any_of": [{"metric": "score", "gain": 0}]}}},
            {"gates": {"A": GATE | {"any_of": [{"metric": "toss_score", "gain": 0}]}}},
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_earlier_keys_are_read_with_a_hint(
    tmp_path: Path, load: Callable[[Path], Any], old: dict[str, Any], new: dict[str, Any]
) -> None:
    base = PLAN if load is plan else DATA
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(base | old))
    with pytest.warns(RenamedWarning, match="is now called"):
        earlier = load(path)
    path.write_text(yaml.safe_dump(base | new))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(path) == earlier


def test_earlier_sections_are_read_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(DATA | nested("show_sharding.num_embeddings", {"color": 3})))
    with pytest.warns(RenamedWarning, match="'plan_only' in the config is now called 'show_sharding'"):
        config = load_rank_config(path, "dcnv2", ["plan_only.num_embeddings.shop=9"])
    assert config.show_sharding.num_embeddings == {"color": 3, "shop": 9}


@pytest.mark.parametrize(
    ("values", "overrides", "message"),
    [
        (
            nested("retrieval.trainer.loss.shown", "negative"),
            ["trainer.loss.impressions=ignore"],
            "'shown' is the earlier",
        ),
        ({"schema": DATA["schema"] | {"towers": {**OLD_TOWERS, "item": ["brand"]}}}, [], "'ad' is the earlier name"),
    ],
)
def test_a_key_under_both_names_is_refused(
    tmp_path: Path, values: dict[str, Any], overrides: list[str], message: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(DATA | values))
    with pytest.raises(InputError, match=message):
        load_retrieval_config(path, overrides)
