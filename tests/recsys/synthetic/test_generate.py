"""The generator: rows that do not depend on the block size, known truth, and refused settings."""

import hashlib
import json
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.errors import InputError
from recsys.synthetic import (
    GeneratorConfig,
    ad_catalog,
    generate,
    true_log_preferences,
    user_interests,
)
from recsys.synthetic.draws import Draws, from_quantiles
from recsys.synthetic.generate import MAX_BLOCK_ROWS, ROW_GROUP
from recsys.synthetic.sequences import MATCH_LENGTH


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_bytes_do_not_depend_on_the_block_size(tmp_path: Path) -> None:
    config = GeneratorConfig(n_rows=20_000, n_test_rows=700)
    expected = digests(generate(config, tmp_path / "a"))
    assert digests(generate(config, tmp_path / "b", block_rows=3001)) == expected
    assert ROW_GROUP % 3001 != 0  # blocks and row groups end at different rows
    other = digests(generate(config.model_copy(update={"seed": 1}), tmp_path / "c"))
    assert other["train.parquet"] != expected["train.parquet"]


def test_one_row_at_a_time(tmp_path: Path) -> None:
    config = GeneratorConfig(n_rows=300, n_test_rows=20)
    assert digests(generate(config, tmp_path / "a", block_rows=1)) == digests(generate(config, tmp_path / "b"))


def test_a_stronger_sequence_term_raises_the_best_scores(tmp_path: Path) -> None:
    def spread(strength: float) -> float:
        folder = generate(GeneratorConfig(n_rows=8000, seq_strength=strength), tmp_path / str(strength))
        p = pq.read_table(folder / "truth.parquet")["p"].to_numpy()[:8000]
        return float(np.log(p / (1 - p)).var())

    # The term is standardized: its variance is the square of its strength.
    assert spread(0.3) - spread(0.1) == pytest.approx(0.08, abs=0.03)


def test_the_match_does_not_depend_on_the_ad_alone() -> None:
    maker = GeneratorConfig(n_rows=60_000).impression_generator("train")
    shown = maker.impressions(np.arange(20_000))
    match = maker.match(shown, maker.events(shown, MATCH_LENGTH))
    match = (match - match.mean()) / match.std()
    for ad_set in np.argsort(-np.bincount(shown.ad_set))[:8]:
        mine = match[shown.ad_set == ad_set]
        assert abs(mine.mean()) < 0.08 + 4 / np.sqrt(len(mine) / 4)
        assert mine.std() > 0.5


def test_finished_folders_are_kept(tmp_path: Path) -> None:
    config = GeneratorConfig(n_rows=500)
    folder = generate(config, tmp_path / "a")
    stamp = (folder / "train.parquet").stat().st_mtime_ns
    assert (generate(config, folder) / "train.parquet").stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match="exists and is not this generated data set"):
        generate(GeneratorConfig(n_rows=501), folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"version": 1}))
    with pytest.raises(InputError, match="exists and is not this generated data set"):
        generate(config, folder)  # an earlier version generated other rows with the same config


def test_user_ids_are_an_additional_column(tmp_path: Path) -> None:
    config = GeneratorConfig(n_rows=3_000, n_test_rows=3_000)
    assert "user_id" not in config.settings()  # folders of data without it keep their fingerprint
    plain = generate(config, tmp_path / "plain")
    folder = generate(config.model_copy(update={"user_id": True}), tmp_path / "users")
    users = {}
    for file in ("train.parquet", "test.parquet"):
        table = pq.read_table(folder / file)
        users[file] = table["user_id"].to_pylist()
        assert table.drop_columns("user_id") == pq.read_table(plain / file)
    assert pq.read_table(folder / "truth.parquet") == pq.read_table(plain / "truth.parquet")
    counts = np.unique(users["train.parquet"], return_counts=True)[1]
    assert set(counts) <= {1, 2, 3, 4, 5}
    assert np.median(counts) == 4
    n_known = len(set(users["train.parquet"]) & set(users["test.parquet"]))
    assert 0 < n_known < len(set(users["test.parquet"]))


@pytest.mark.parametrize("block_rows", [0, MAX_BLOCK_ROWS + 1])
def test_wrong_block_rows(tmp_path: Path, block_rows: int) -> None:
    with pytest.raises(InputError, match=f"block_rows must be 1 to .*, got {block_rows}"):
        generate(GeneratorConfig(n_rows=500), tmp_path / "a", block_rows=block_rows)


@pytest.mark.parametrize("strength", [-0.1, 5.1, float("inf"), float("nan")])
def test_wrong_strength(strength: float) -> None:
    with pytest.raises(ValueError, match="seq_strength"):
        GeneratorConfig(seq_strength=strength)


@pytest.mark.parametrize("split", ["train", "test"])
def test_true_preferences_have_a_higher_recall_than_popularity(
    toss_folder: Path, split: Literal["train", "test"]
) -> None:
    config, n = GeneratorConfig(n_rows=60_000), 4000
    rows = np.arange(n)
    shown = (
        pq.read_table(toss_folder / f"{split}.parquet", columns=["l_feat_14"])["l_feat_14"].to_numpy()[:n].astype(int)
    )
    catalog, interests = ad_catalog(config), user_interests(config, split, rows)
    preferences = true_log_preferences(config, split, rows)
    assert preferences.shape == (n, 3237)
    popularity = preferences - interests @ catalog.vector.T

    def recall_at_10(scores: np.ndarray) -> float:
        return float(np.mean((scores > scores[rows, shown - 1][:, None]).sum(axis=1) < 10))

    assert np.isfinite(preferences[rows, shown - 1]).all()  # only active ad sets are shown
    assert recall_at_10(preferences) > recall_at_10(popularity) + 0.05


def test_inverse_distribution_by_hand() -> None:
    quantiles = (0.0, 1.0, 2.0, 3.0, 4.0)
    uniform = np.array([0.0, 0.125, 0.25, 0.5, 0.625, 0.75, 1.0])
    assert from_quantiles(quantiles, uniform).tolist() == [0.0, 0.5, 1.0, 2.0, 2.5, 3.0, 4.0]


def test_draws_are_independent_streams() -> None:
    draws, index = Draws(0), np.arange(20_000)
    a, b = draws.normal("a", index), draws.normal("b", index)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03
    assert a.mean() == pytest.approx(0, abs=0.03)
    assert a.std() == pytest.approx(1, abs=0.02)
    assert np.array_equal(draws.normal("a", index[::-1])[::-1], a)
