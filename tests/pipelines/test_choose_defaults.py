"""Which settings of retrieval are chosen for which data."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.common.retrieval_settings import RetrievalSettings
from pipelines.parts.retrieval_defaults import describe_training, resolve
from recsys.data.split import Split
from recsys.errors import InputError
from tests.helpers.small import prepare_small, small_schema

N_USERS, N_STEPS = 60, 8


def log_split(folder: Path, min_count: int = 1, **changes: object) -> Split:
    """A log in which each user has other items at each step; even items are clicked."""
    rng = np.random.default_rng(0)
    item = np.concatenate([rng.permutation(20)[:N_STEPS] for _ in range(N_USERS)])
    user = np.repeat(np.arange(N_USERS), N_STEPS)
    click = (item % 2).astype(np.int8)
    table = pa.table({"user": user, "item": item, "time": np.arange(len(user)), "click": click})
    past = {"kind": "log", "key": "user", "item": "item", "order": "time"}
    settings = {
        "label": None,
        "id": None,
        "day": None,
        "categorical": ["user", "item"],
        "numeric": [],
        "segments": {},
        "split": {"key": "user", "order": "time"},
        "sequences": {"past": past | dict(changes.pop("past", {}))},  # type: ignore[call-overload]
        "target_item": "item",
        "towers": {"user": ["past"], "item": ["item"]},
    }
    schema = small_schema(**(settings | changes))
    return prepare_small(table, folder / "raw", folder / "prepared", schema, min_count=min_count).split("full")


def chosen(split: Split, **settings: object) -> RetrievalSettings:
    return resolve(RetrievalSettings.model_validate(settings), split, split.evaluation_rows["valid"], "cpu")


def test_a_log_of_positives_gets_causal_pooling(tmp_path: Path) -> None:
    split = log_split(tmp_path)
    found = chosen(split)
    assert found.positives == "all"
    assert found.exclude == "seen"
    assert found.score_parts is None
    assert (found.model.pooling, found.model.embedding_dim, found.model.user_hidden_dims) == ("causal", 64, ())
    assert found.trainer.loss.full_catalog
    assert found.trainer.batch_size == 85  # 512 steps, 6 of them in each of the 60 histories
    assert found.trainer.epochs == 40
    assert found.trainer.early_stopping is not None
    assert "batch 85, 40 epochs of 1 step, learning rate 0.002, causal pooling" in describe_training(found, split)
    again = resolve(found, split, split.evaluation_rows["valid"], "cpu")
    assert again == found  # a resolved config, as config.yaml has it


def test_settings_of_the_config_stay(tmp_path: Path) -> None:
    trainer = {"epochs": 3, "batch_size": 7, "learning_rate": 0.1, "early_stopping": None, "loss": {}}
    found = chosen(log_split(tmp_path), trainer=trainer, model={"embedding_dim": 8}, exclude_seen=False)
    assert (found.trainer.epochs, found.trainer.batch_size, found.trainer.learning_rate) == (3, 7, 0.1)
    assert found.trainer.early_stopping is None
    assert found.trainer.weight_average == 0.99  # it belongs to the chosen number of epochs
    assert found.exclude == "none"
    assert found.model.pooling == "mean"  # the loss of the config has no full catalog
    assert found.model.embedding_dim == 8


@pytest.mark.parametrize(
    ("changes", "positives", "pooling"),
    [
        ({"label": "click"}, "all", "causal"),
        ({"label": "click"}, "clicked", "mean"),  # steps are not clicks
        ({"label": "click", "past": {"where": {"column": "click", "min": 1}}}, "clicked", "causal"),
        ({"label": "click", "past": {"where": {"column": "click", "values": ["1"]}}}, "clicked", "causal"),
        ({"label": "click", "past": {"where": {"column": "click", "min": 1}}}, "all", "mean"),
        ({"label": "click", "past": {"where": {"column": "time", "min": 1}}}, "clicked", "mean"),
        (
            {"label": {"column": "click", "min": 1}, "past": {"where": {"column": "click", "min": 1}}},
            "clicked",
            "causal",
        ),
        ({"categorical": ["item"]}, "all", "mean"),  # the key has no ids
        ({"towers": {"user": ["user"], "item": ["item"]}}, "all", "mean"),
    ],
)
def test_causal_pooling_needs_histories_of_positives(
    tmp_path: Path, changes: dict[str, object], positives: str, pooling: str
) -> None:
    found = chosen(log_split(tmp_path, **changes), positives=positives)
    assert found.model.pooling == pooling
    assert found.trainer.loss.full_catalog


def test_a_key_with_rare_values_has_no_windows(tmp_path: Path) -> None:
    assert chosen(log_split(tmp_path, min_count=7)).model.pooling == "mean"  # a user has 6 fitting rows


def test_causal_pooling_needs_a_history(tmp_path: Path) -> None:
    split = log_split(tmp_path, towers={"user": ["user"], "item": ["item"]})
    with pytest.raises(InputError, match=r"model\.pooling=causal needs one sequence"):
        chosen(split, model={"pooling": "causal"})
