"""A bundle scores requests as `pipelines.submit` scores files."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from pipelines.ensemble import ensemble
from pipelines.export import export
from pipelines.submit import submit
from recsys.evaluation.logits import logit_of
from serving.runtime.bundle import Bundle
from serving.runtime.models import Graph
from tests.helpers.serving import ITEM_COLUMNS, SETTINGS, as_json, train, unseen_rows

TOLERANCE = 1e-5


def submitted(run: Path, test: Path, out: Path) -> np.ndarray:
    """The natural logits that submit writes for the rows of a file."""
    submit(run=run, test=[test], out=out, scale="natural")
    return logit_of(pa_csv.read_csv(out).column(1).to_numpy())


@pytest.mark.parametrize("model", list(SETTINGS))
def test_a_bundle_scores_files_as_submit_does(
    model: str, prepared: Path, run_of: Callable[[str], Path], bundle_of: Callable[[str], Bundle], tmp_path: Path
) -> None:
    expected = submitted(run_of(model), prepared.parent / "test.parquet", tmp_path / "s.csv")
    bundle, rows = bundle_of(model), unseen_rows()
    assert np.ptp(expected) > 0.1
    scores = bundle.score(rows)
    np.testing.assert_allclose(scores.logit, expected, atol=TOLERANCE)
    np.testing.assert_allclose(scores.p, 1 / (1 + np.exp(-expected)), rtol=1e-4)
    names = list(rows.column_names)
    random.Random(0).shuffle(names)
    np.testing.assert_array_equal(bundle.score(rows.select(names)).logit, scores.logit)
    np.testing.assert_allclose(bundle.score(as_json(rows.to_pylist())).logit, expected, atol=TOLERANCE)


@pytest.mark.parametrize("model", list(SETTINGS))
def test_a_user_with_candidates_is_scored_as_the_joined_rows(model: str, bundle_of: Callable[[str], Bundle]) -> None:
    bundle, rows = bundle_of(model), unseen_rows().to_pylist()
    for number in (0, 1, 2, 7, 8, 15):
        user = {name: value for name, value in rows[number].items() if name not in ITEM_COLUMNS}
        candidates = [{name: row[name] for name in ITEM_COLUMNS} for row in rows[number : number + 5]]
        joined = [user | candidate for candidate in candidates]
        expected = bundle.score(pa.Table.from_pylist(joined, unseen_rows().schema)).logit
        by_column = {name: [candidate[name] for candidate in candidates] for name in ITEM_COLUMNS}
        for form in (as_json(candidates), as_json([by_column])[0]):
            np.testing.assert_allclose(bundle.score(form, as_json([user])[0]).logit, expected, atol=TOLERANCE)


@pytest.mark.parametrize("model", ["dcnv2", "din", "gbdt"])
def test_requests_that_are_scored_together_do_not_change_each_other(
    model: str, bundle_of: Callable[[str], Bundle]
) -> None:
    bundle, rows = bundle_of(model), unseen_rows().to_pylist()
    requests = []
    for first, n in ((0, 3), (10, 1), (20, 3), (40, 4)):
        user = {name: value for name, value in rows[first].items() if name not in ITEM_COLUMNS}
        candidates = [{name: row[name] for name in ITEM_COLUMNS} for row in rows[first : first + n]]
        requests.append(bundle.encode(bundle.read(candidates, user)))
    requests.append(bundle.encode(bundle.read(rows[50:53])))  # each row has a history of its own
    together = bundle.natural_logits(requests)
    alone = np.concatenate([bundle.natural_logits([request]) for request in requests])
    np.testing.assert_allclose(together, alone, atol=TOLERANCE)


@pytest.mark.slow
def test_an_ensemble_of_folds_and_seeds(prepared: Path, tmp_path: Path) -> None:
    """Five fits of two models, averaged, calibrated and stacked."""
    a = train("dcnv2", prepared, tmp_path / "a", "trainer.seeds=2", folds="0,1")
    left_out = (
        "features.leave_out=[color_shop]",
        "features.leave_out_numeric=[x_2,is_new]",
        "features.leave_out_encodings=[seen,color]",
    )
    b = train("gbdt", prepared, tmp_path / "b", *left_out, folds="0,1")
    for method in ("logistic", "rank_mean"):
        both = tmp_path / method
        ensemble(runs=[a, b], out=both, method=method, replicates=100)
        expected = submitted(both, prepared.parent / "test.parquet", tmp_path / f"{method}.csv")
        export(run=both, out=tmp_path / f"bundle-{method}")
        bundle = Bundle.load(tmp_path / f"bundle-{method}", n_threads=1)
        assert [len(member.fits) for member in bundle.spec.members] == [4, 2]
        assert len(bundle.spec.encoders) == 4
        np.testing.assert_allclose(bundle.score(unseen_rows()).logit, expected, atol=TOLERANCE)


def test_shared_columns_are_multiplied_once(
    bundle_of: Callable[[str], Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles = [bundle_of(model) for model in ("dcnv2", "din")]  # their export runs graphs too
    seen: list[tuple[int, ...]] = []
    run = Graph.__call__

    def record(graph: Graph, rows: dict[str, np.ndarray], axis: int, *others: Any) -> np.ndarray:
        seen.append(rows["dense"].shape[:2])
        return run(graph, rows, axis, *others)

    monkeypatch.setattr(Graph, "__call__", record)
    rows = unseen_rows().to_pylist()[:4]
    for bundle in bundles:
        for own in (("shop", "size"), ITEM_COLUMNS):
            user = {name: value for name, value in rows[0].items() if name not in own}
            bundle.score([{name: row[name] for name in own} for row in rows], user)
    assert seen == [(1, 4), (4, 1), (1, 4), (4, 1)]
