"""Compares generated data with published figures of the real data; tolerances follow from the sample size."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score

from recsys.synthetic import (
    bayes_metrics,
    columns,
    read_bayes,
)

N = 60_000


def number(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy()


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    both = ~(np.isnan(a) | np.isnan(b))
    return float(np.corrcoef(a[both], b[both])[0, 1])


def seq_lengths(table: pa.Table) -> np.ndarray:
    return pc.add(pc.count_substring(table["seq"], ","), 1).to_numpy()


def test_columns_and_types(train: pa.Table, toss_folder: Path) -> None:
    assert tuple(train.column_names) == (*columns.FEATURES, "clicked")
    assert len(train.column_names) == 119
    types = [str(field.type) for field in train.schema]
    assert types == ["string"] * 6 + ["float"] * 112 + ["int32"]
    test = pq.read_schema(toss_folder / "test.parquet").names
    assert tuple(test) == ("ID", *columns.FEATURES)


def test_sample_submission_follows_the_test_file(toss_folder: Path) -> None:
    ids = pq.read_table(toss_folder / "test.parquet", columns=["ID"])["ID"].to_pylist()
    lines = (toss_folder / "sample_submission.csv").read_text().splitlines()
    assert lines[0] == "ID,clicked"
    assert [line.split(",")[0] for line in lines[1:]] == ids
    assert ids[0] == "TEST_0000000"
    assert ids[-1] == f"TEST_{len(ids) - 1:07d}"


def test_base_rates(p: np.ndarray, truth: dict[str, pa.Table]) -> None:
    assert p.mean() == pytest.approx(columns.BASE_RATE, rel=0.03)
    assert truth["test"]["p"].to_numpy().mean() == pytest.approx(columns.TEST_BASE_RATE, rel=0.05)


def test_labels_follow_p(train: pa.Table, truth: dict[str, pa.Table], p: np.ndarray) -> None:
    label = number(train, "clicked")
    assert np.array_equal(label, truth["train"]["clicked"].to_numpy())
    sd = np.sqrt((p * (1 - p)).sum())
    assert abs(label.sum() - p.sum()) < 4 * sd
    # Also for the rows with the highest p.
    top = p > np.quantile(p, 0.95)
    assert abs(label[top].sum() - p[top].sum()) < 4 * np.sqrt((p[top] * (1 - p[top])).sum())


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("gender", columns.GENDER),
        ("age_group", columns.AGE),
        ("inventory_id", columns.INVENTORY),
        ("day_of_week", columns.DAYS),
        ("hour", columns.HOURS),
    ],
)
def test_shares_and_click_rates(train: pa.Table, p: np.ndarray, name: str, table: dict) -> None:
    values = np.array(train[name].to_pylist(), object)
    total_share = sum(share for share, _ in table.values())
    for value, (share, rate) in table.items():
        mine = values == value
        expected = share / total_share
        # Users have three to five rows each, so their columns vary more than independent rows.
        assert abs(mine.mean() - expected) < 10 * np.sqrt(expected / N), value
        if mine.sum() > 1000:
            sd = p[mine].std() / np.sqrt(mine.sum() / 5)
            assert abs(100 * p[mine].mean() - rate) < 100 * 4 * sd + 0.12 * rate, value


def test_null_blocks(train: pa.Table) -> None:
    nulls = {name: train[name].is_null().to_numpy() for name in columns.FEATURES}
    assert len(columns.NULL_BLOCK_1) == 77
    first, second = nulls["gender"], nulls["feat_a_1"]
    assert all(np.array_equal(nulls[name], first) for name in columns.NULL_BLOCK_1)
    assert all(np.array_equal(nulls[name], second) for name in columns.NULL_BLOCK_2)
    assert first.mean() == pytest.approx(columns.NULL_RATE_1, abs=4 * np.sqrt(columns.NULL_RATE_1 / N))
    assert second.mean() == pytest.approx(columns.NULL_RATE_2, abs=4 * np.sqrt(columns.NULL_RATE_2 / N))
    assert second[first].mean() > 0.9
    assert nulls["feat_e_3"].mean() == pytest.approx(columns.NULL_RATE_E3, abs=0.01)
    never = set(columns.FEATURES) - set(columns.NULL_BLOCK_1) - set(columns.NULL_BLOCK_2) - {"feat_e_3"}
    assert not any(nulls[name].any() for name in never)


def test_test_nulls_and_day(toss_folder: Path) -> None:
    test = pq.read_table(toss_folder / "test.parquet", columns=["feat_e_3", "day_of_week"])
    assert test["feat_e_3"].is_null().to_numpy().mean() == pytest.approx(columns.TEST_NULL_RATE_E3, abs=0.01)
    assert set(test["day_of_week"].to_pylist()) == {"7"}


def test_cardinalities(train: pa.Table) -> None:
    most = {1: 2, 3: 3, 4: 26, 5: 1076, 6: 900, 7: 313, 9: 476, 10: 262, 11: 1524, 12: 5050, 13: 2, 14: 3237}
    most |= {15: 2582, 16: 2, 17: 476, 25: 1788, 26: 18, 27: 5, 18: 7, 2: 2, 8: 2, 19: 2, 21: 2, 22: 2, 24: 2}
    for k, expected in most.items():
        values = number(train, f"l_feat_{k}")
        distinct = len(np.unique(values[~np.isnan(values)]))
        assert distinct <= expected
        assert distinct >= (expected if expected <= 26 else expected // 6), f"l_feat_{k}"
    for k, value in ((20, 2), (23, 1)):
        assert set(np.unique(number(train, f"l_feat_{k}").astype(float))) - {np.nan} >= {value}
        assert np.nanmax(number(train, f"l_feat_{k}")) == np.nanmin(number(train, f"l_feat_{k}")) == value


def n_values_within(parent: np.ndarray, child: np.ndarray) -> np.ndarray:
    """Distinct child values of each parent value."""
    pairs = np.unique(np.stack([parent, child]), axis=1)
    return np.unique(pairs[0], return_counts=True)[1]


def test_ad_hierarchy(train: pa.Table) -> None:
    ad = {k: number(train, f"l_feat_{k}") for k in (1, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17)}
    assert np.array_equal(ad[17], ad[9])
    assert np.array_equal(ad[16], 3 - ad[1])
    for k in (1, 9, 10, 11, 13, 16, 17):
        assert n_values_within(ad[14], ad[k]).max() == 1, k
    for k in (4, 15):
        assert np.mean(n_values_within(ad[14], ad[k]) == 1) > 0.99, k
    for k in (3, 5, 6, 7, 14):
        assert n_values_within(ad[12], ad[k]).max() == 1, k
    assert n_values_within(ad[14], ad[12]).max() <= 48
    assert n_values_within(ad[11], ad[14]).max() <= 100
    assert np.mean(number(train, "l_feat_25") == 1129) >= 0.5


def test_popularity_is_heavy_tailed(train: pa.Table) -> None:
    counts = np.sort(np.unique(number(train, "l_feat_14"), return_counts=True)[1])[::-1]
    assert 0.35 < counts[:10].sum() / counts.sum() < 0.65


def test_sequence_lengths(train: pa.Table) -> None:
    lengths = seq_lengths(train)
    found = np.quantile(lengths, [0.25, 0.5, 0.75, 0.9, 0.99])
    assert found == pytest.approx([182, 439, 780, 1125, 1847], rel=0.05)
    assert lengths.mean() == pytest.approx(531, rel=0.03)
    assert lengths.std() == pytest.approx(436, rel=0.06)
    assert np.mean(lengths == 1) == pytest.approx(0.0055, abs=0.003)
    assert lengths.max() <= 14_441
    is_lone = np.array([text == "144" for text in train["seq"].filter(pa.array(lengths == 1)).to_pylist()])
    assert is_lone.mean() == pytest.approx(1 / 3, abs=0.12)  # about 400 rows of 100 users


def test_click_rate_falls_with_sequence_length(train: pa.Table, p: np.ndarray) -> None:
    lengths = seq_lengths(train)
    published = {(0, 10): 4.6, (10, 25): 3.8, (25, 50): 2.8, (50, 100): 2.5, (100, 250): 2.05}
    published |= {(250, 500): 1.8, (500, 1000): 1.7}
    found = [100 * p[(lengths >= a) & (lengths < b)].mean() for a, b in published]
    assert found == sorted(found, reverse=True)
    assert found == pytest.approx(list(published.values()), rel=0.15)


def longest_run(row: np.ndarray) -> int:
    ends = np.flatnonzero(np.append(row[1:] != row[:-1], True))
    return int(np.diff(ends, prepend=-1).max())


def test_sequences_repeat_tokens(train: pa.Table) -> None:
    texts = train["seq"].slice(0, 2000).to_pylist()
    tokens = [np.array(text.split(","), int) for text in texts]
    everything = np.concatenate(tokens)
    assert everything.min() >= 0
    assert 500 < len(np.unique(everything)) <= 561
    assert np.mean([len(np.unique(row)) for row in tokens]) == pytest.approx(53, rel=0.15)
    assert np.mean([longest_run(row) >= 10 for row in tokens]) == pytest.approx(0.39, abs=0.05)
    all_texts = train["seq"].to_pylist()
    counts = {}
    for text in all_texts:
        counts[text] = counts.get(text, 0) + 1
    assert sum(n for n in counts.values() if n > 1) / N == pytest.approx(0.33, abs=0.05)


@pytest.mark.parametrize("name", sorted(columns.QUANTILES))
def test_quantiles(train: pa.Table, name: str) -> None:
    low, q25, q50, q75, high = columns.QUANTILES[name]
    values = number(train, name)
    scale = max(q75 - q25, 1e-3)
    assert np.nanquantile(values, [0.25, 0.5, 0.75]) == pytest.approx([q25, q50, q75], abs=0.1 * scale)
    # The file has float32 extremes.
    assert np.nanmin(values) >= low - 1e-6 * abs(low)
    assert np.nanmax(values) <= high + 1e-6 * abs(high)


def test_history_quantiles(train: pa.Table) -> None:
    a_1 = np.nanquantile(number(train, "history_a_1"), [0.25, 0.5, 0.75])
    assert a_1 == pytest.approx([0.028, 0.050, 0.093], rel=0.1)
    for k, median in ((4, -280), (6, -139), (7, -9.75)):
        assert np.nanmedian(number(train, f"history_a_{k}")) == pytest.approx(median, rel=0.05)
    for k, share in ((2, 0.38), (3, 0.22), (5, 0.53)):
        assert np.mean(number(train, f"history_a_{k}") == 0) == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize(
    ("a", "b", "published", "tolerance"),
    [
        # Published without a sign; two columns with opposite tails have a negative correlation.
        ("feat_e_7", "feat_e_9", -0.91, 0.06),
        ("feat_b_3", "feat_b_5", -0.88, 0.06),
        ("feat_e_8", "feat_e_10", 0.89, 0.06),
        ("feat_c_1", "feat_c_7", 0.87, 0.06),
        ("feat_c_1", "feat_c_4", 0.84, 0.06),
        ("feat_d_2", "feat_d_3", 0.78, 0.06),
        ("feat_a_6", "feat_a_7", 0.79, 0.06),
        ("history_a_4", "history_a_6", 0.99, 0.02),
        ("history_b_1", "history_b_2", 0.998, 0.003),
        ("history_b_7", "history_b_30", 0.998, 0.003),
        ("feat_a_3", "feat_a_4", 0.72, 0.06),
    ],
)
def test_correlations_between_columns(train: pa.Table, a: str, b: str, published: float, tolerance: float) -> None:
    assert correlation(number(train, a), number(train, b)) == pytest.approx(published, abs=tolerance)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("history_a_1", 0.068), ("history_a_2", -0.060), ("history_a_3", 0.060), ("history_a_5", -0.059),
        ("history_b_2", 0.059), ("history_b_30", 0.058), ("history_b_1", 0.052), ("history_b_7", 0.042),
        ("feat_b_4", -0.048), ("feat_d_3", -0.047), ("feat_e_1", -0.046), ("seq", -0.022),
    ],
)  # fmt: skip
def test_correlations_with_the_click(train: pa.Table, p: np.ndarray, name: str, published: float) -> None:
    values = seq_lengths(train).astype(float) if name == "seq" else number(train, name)
    # Correlation with p, which is less noisy than the click, scaled to the correlation with the click.
    found = correlation(values, p) * p.std() / np.sqrt(p.mean() * (1 - p.mean()))
    assert np.sign(found) == np.sign(published)
    assert found == pytest.approx(published, abs=0.02)


def test_best_possible_scores(p: np.ndarray) -> None:
    # The mean over many draws of labels: the AP of one draw of 60,000 has an error of .008.
    rng = np.random.default_rng(0)
    draws = [bayes_metrics(p, (rng.random(N) < p).astype(int)).model_dump() for _ in range(20)]
    mean = {name: np.mean([draw[name] for draw in draws]) for name in ("ap", "roc_auc", "wll", "toss_score")}
    assert mean["ap"] == pytest.approx(0.086, abs=0.010)
    assert mean["roc_auc"] == pytest.approx(0.739, abs=0.012)
    assert mean["wll"] == pytest.approx(0.597, abs=0.012)
    assert mean["toss_score"] == pytest.approx(0.356, abs=0.008)


def test_some_pairs_of_slot_and_format_have_high_click_rates(train: pa.Table, p: np.ndarray) -> None:
    slot, ad_format = (number(train, name).astype(int) for name in ("l_feat_26", "l_feat_27"))
    n_rows, sum_p = np.zeros((2, 19, 6))
    np.add.at(n_rows, (slot, ad_format), 1)
    np.add.at(sum_p, (slot, ad_format), p)
    rate = sum_p[1:, 1:] / n_rows[1:, 1:]
    is_rare = rate > 0.06
    assert n_rows[1:, 1:][is_rare].sum() / N == pytest.approx(0.02, abs=0.002)
    assert rate[is_rare].min() > 4 * rate[~is_rare].max()  # exp(2.2) is 9


def test_metadata_holds_the_scores(toss_folder: Path, train: pa.Table, p: np.ndarray) -> None:
    best = read_bayes(toss_folder)["train"]
    assert best.ap == pytest.approx(average_precision_score(number(train, "clicked"), p))
    metadata = pq.read_schema(toss_folder / "truth.parquet").metadata
    assert json.loads(metadata[b"config"])["n_rows"] == N


def test_unseen_ad_sets_in_test(toss_folder: Path, train: pa.Table) -> None:
    test = pq.read_table(toss_folder / "test.parquet", columns=["l_feat_14"])
    unseen = ~np.isin(test["l_feat_14"].to_numpy(), number(train, "l_feat_14"))
    assert 0 < unseen.mean() < 0.1
