"""Any config file and any override gives settings or a one-line error."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.common.cli import TOSS_CONFIG
from pipelines.common.config import load_rank_config
from ranking.models import model_names
from recsys.errors import InputError

cases = settings(max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=[*HealthCheck])

JUNK = st.sampled_from(
    [
        *(
            None,
            5,
            -1,
            "x",
            "",
            [],
            {},
            [1],
            {"a": 1},
            True,
            1.5,
            "2020-01-01",
            [None],
            {1: 2},
            [[[]]],
            {"kind": "log"},
        ),
        *(float("nan"), float("inf"), 10**30, "${x}", "${.x}", "é", "\x00"),
    ]
)
KEYS = st.sampled_from(
    """
    model model.embedding_dim model.hidden_dims trainer trainer.epochs trainer.loss trainer.loss.name trainer.seed
    trainer.early_stopping trainer.early_stopping.weights trainer.embeddings.tables schema schema.label schema.split
    schema.categorical schema.sequences schema.sequences.seq schema.sequences.seq.kind schema.crosses schema.segments
    schema.sequences.seq.max_length schema.sequences.seq.delimiter schema.side_tables schema.towers prepare files
    prepare.n_folds prepare.min_count prepare.min_count_by_column prepare.clip_quantile files.train name models
    models.dcnv2 generator generator.n_rows show_sharding.num_embeddings a..b a. [0] model[0]
    """.split()  # noqa: SIM905 (a list of forty strings)
)
VALUES = st.sampled_from(
    [
        *(
            "",
            "null",
            "5",
            "-5",
            "1e400",
            "nan",
            ".inf",
            "[]",
            "{}",
            "[1,2]",
            "{a: 1}",
            "'x'",
            "${x}",
            "${oc.env:NONE}",
        ),
        *("[", "{", "a: b: c", "!!python/object/apply:os.system [ls]", "*x", "é", "\x00", "\n", "9" * 30, "[[[]]]"),
        *("{kind: list}", "{kind: log}", "[null]", "{null: 1}", "{1: 2}", "???", "-1.5", "{a: {b: null}}", "=", "a=b"),
    ]
)
OVERRIDES = st.lists(st.tuples(KEYS, st.sampled_from(["=", "=", "=", ""]), VALUES).map("".join), min_size=1, max_size=2)


def load(path: Path, model: str, overrides: list[str]) -> None:
    try:
        load_rank_config(path, model, overrides)
    except InputError as error:
        said = str(error)
    else:
        return
    assert said.strip()
    assert "\n" not in said


def changed(values: Any) -> st.SearchStrategy[Any]:
    """A config's values, some of them replaced or removed."""
    if isinstance(values, dict):
        parts = st.fixed_dictionaries({}, optional={key: changed(value) for key, value in values.items()})
        return st.one_of(parts, parts, parts, JUNK)
    return st.one_of(st.just(values), st.just(values), st.just(values), JUNK)


@pytest.mark.parametrize("model", model_names())
@settings(cases, max_examples=25)
@given(overrides=OVERRIDES)
def test_any_override(model: str, overrides: list[str]) -> None:
    load(TOSS_CONFIG, model, overrides)


@cases
@given(values=changed(yaml.safe_load(TOSS_CONFIG.read_text())), model=st.sampled_from(model_names()))
def test_any_config(tmp_path: Path, values: Any, model: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True))
    load(path, model, [])


@cases
@given(places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_config_with_any_bytes_changed(tmp_path: Path, places: list[tuple[int, int]]) -> None:
    text = bytearray(TOSS_CONFIG.read_bytes())
    for place, byte in places:
        text[place % len(text)] = byte
    path = tmp_path / "config.yaml"
    path.write_bytes(text)
    load(path, "dcnv2", [])


def test_yaml_tags_create_no_objects(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"name: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'made'}]\n")
    with pytest.raises(InputError, match="is not a readable YAML file"):
        load_rank_config(path, "dcnv2", [])
    assert not (tmp_path / "made").exists()
