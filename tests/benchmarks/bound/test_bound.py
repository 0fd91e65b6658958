from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.bound import effects
from benchmarks.bound.__main__ import bound, shares
from benchmarks.bound.form import generated_rows, hats
from pipelines.rank import rank
from recsys.errors import InputError
from recsys.evaluation.metrics import Metrics
from recsys.runs.metrics import read_metrics
from recsys.synthetic import GeneratorConfig, generate


def test_rows_are_those_that_the_generator_writes_and_runs_are_compared_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(effects, "_MAX_STEPS", 3)  # any weights will do
    config = GeneratorConfig(n_rows=3000, n_test_rows=428)
    folder = generate(config, tmp_path / "data")
    truth = pq.read_table(folder / "truth.parquet").to_pandas()
    computed = {"train": generated_rows(config, "train"), "test": generated_rows(config, "test")}
    for split, rows in computed.items():
        of_split = truth[truth["split"] == split]
        np.testing.assert_array_equal(rows.p, of_split["p"])
        np.testing.assert_array_equal(rows.label, of_split["clicked"])
    columns = pq.read_table(folder / "train.parquet").to_pandas()
    codes = computed["train"].design.codes
    np.testing.assert_array_equal(codes[:, 0] + 1, columns["l_feat_14"])
    np.testing.assert_array_equal(codes[:, 8], 5 * (columns["l_feat_26"] - 1) + columns["l_feat_27"] - 1)

    few = ["model.n_trees=5", "trainer.early_stopping=null"]
    rank(model="gbdt", data=folder, out=Path("trees"), overrides=few)
    values = bound(rows=[3000], run=[Path("trees")], n_test_rows=428, out=Path("bound.json"))["3000"]
    found, overall = values["runs"]["trees"], read_metrics(Path("trees")).overall
    assert found["trees"]["ap"] == pytest.approx(overall.ap, abs=1e-9)
    assert found["true probabilities"]["logloss"] < found["trees"]["logloss"]
    first, last = found["constant rate"]["ap"], found["bound: the generator's form, fitted"]["ap"]
    assert found["trees"]["share"]["ap"] == pytest.approx((overall.ap - first) / (last - first))
    assert Path("bound.json").is_file()
    with pytest.raises(InputError, match=r"3,000 generated rows with seed 0"):
        bound(rows=[4000], run=[Path("trees")])


def test_the_share_is_zero_at_the_baseline_and_one_at_the_bound() -> None:
    counts = {"n_rows": 10, "n_positive": 1}
    metrics = {
        "start": Metrics(**counts, ap=0.05, logloss=0.09),
        "run": Metrics(**counts, ap=0.06, logloss=0.088),
        "bound: the generator's form, fitted": Metrics(**counts, ap=0.07, logloss=0.085),
    }
    found = {name: shares(figures, metrics, "start") for name, figures in metrics.items()}
    assert found["start"] == {"logloss": 0, "ap": 0}
    assert found["run"] == pytest.approx({"logloss": 0.4, "ap": 0.5})
    assert list(found.values())[-1] == {"logloss": 1, "ap": 1}


def test_hats_interpolate() -> None:
    values = np.array([-9.0, -2.5, -0.1, 0.3, 2.5, 9.0])
    found = hats(values)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found @ np.linspace(-2.5, 2.5, 11), np.clip(values, -2.5, 2.5))
