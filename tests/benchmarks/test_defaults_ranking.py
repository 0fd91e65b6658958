"""The benchmark of default training: which models pass, and its table."""

import fnmatch
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.defaults.__main__ import cells, failures, names_of
from benchmarks.defaults.datasets import SOURCES
from benchmarks.defaults.ranking import Outcome, Result
from benchmarks.defaults.source import Source
from recsys.errors import InputError

RNG = np.random.default_rng(0)
LABEL = RNG.permutation(np.repeat([0, 1], [700, 300])).astype(np.int8)
GOOD = 2.0 * LABEL - 1.5 + RNG.normal(size=1000)
"""Logits of an informative model."""


def result(**natural: np.ndarray) -> Result:
    outcomes = {"logistic regression": GOOD, "LightGBM": GOOD - 0.01 * RNG.normal(size=1000)}
    outcomes |= natural
    return Result("mine-1000", 1000, LABEL, {name: Outcome.of(LABEL, values) for name, values in outcomes.items()})


def test_a_model_passes_within_two_standard_errors() -> None:
    passed = result(dcnv2=GOOD + 0.02 * RNG.normal(size=1000), gbdt=RNG.normal(size=1000))
    assert passed.best == "dcnv2"
    assert failures(passed, "dcnv2") == []
    assert failures(passed, "gbdt") == []  # trees are compared with LightGBM alone, and only the best model
    assert failures(passed, "LightGBM") == []  # no model of ours


def test_a_model_without_information_fails_both() -> None:
    failed = result(dcnv2=RNG.normal(size=1000))
    assert failures(failed, "dcnv2") == ["logistic regression", "LightGBM"]
    gaps = failed.gaps("dcnv2", "logistic regression")
    better = failed.gaps("logistic regression", "dcnv2")
    for metric in ("logloss", "roc_auc"):
        assert gaps[metric].difference == pytest.approx(-better[metric].difference)
        assert gaps[metric].difference > 0


def test_columns_are_those_of_all_results() -> None:
    """DIN is missing where a data set has no behaviours; its column then has a dash, and no other cell moves."""
    without, with_din = result(dcnv2=GOOD, gbdt=GOOD), result(dcnv2=GOOD, din=GOOD, gbdt=-GOOD)
    names = names_of([without, with_din])
    assert names == ["logistic regression", "LightGBM", "dcnv2", "din", "gbdt"]
    texts = cells(without, names, "**{}**")
    assert texts[:3] == ["mine", "1,000", "300"]
    assert texts[3 + names.index("din")] == "-"
    assert texts[3 + names.index("gbdt")] == texts[3 + names.index("dcnv2")]
    assert len(cells(with_din, names, "**{}**")) == len(texts)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_the_named_columns_exist_and_numbers_are_numbers(
    source: Source, public_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the generator writes its rows there
    try:
        table = source.read(source.sizes[0])
    except InputError as error:  # a package of data sets
        pytest.skip(str(error))
    assert set(source.categorical) <= set(table.column_names)
    for pattern in source.numeric:
        names = fnmatch.filter(table.column_names, pattern)
        assert names, pattern
        for name in names:
            kind = table.schema.field(name).type
            assert pa.types.is_integer(kind) or pa.types.is_floating(kind), name
