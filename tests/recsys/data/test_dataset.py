import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.data.dataset import PreparedDataset
from recsys.data.layout import BLOCK_ROWS, FORMAT_VERSION
from recsys.data.vocabulary import MISSING_ID, RARE_ID
from recsys.errors import InputError
from recsys.system.seal import seal
from tests.helpers.earlier_format import copy_in_format_3
from tests.helpers.small import prepare_small, small_schema, small_table


def test_batch_has_the_values_of_the_raw_rows(small: PreparedDataset) -> None:
    rows, raw = np.array([1999, 0, 7, 512]), small_table()
    split = small.split("full")
    batch = split.batch(rows, ["seen"])
    vocabulary = small.vocabularies
    ids = {name: batch.sparse[name].values().tolist() for name in ("color", "shop")}
    for name in ("color", "shop"):
        values = vocabulary[name].values.to_pylist()
        for row, found in zip(rows, ids[name], strict=True):
            value = raw[name][row].as_py()
            text = None if value is None else value if name == "color" else str(int(value))
            expected = MISSING_ID if text is None else values.index(text) + 2 if text in values else RARE_ID
            assert found == expected
    tokens = vocabulary["seen"].values.to_pylist()
    jagged = batch.sequences["seen"]
    for row, found in zip(rows, jagged.to_dense(), strict=True):
        text = raw["seen"][row].as_py()
        kept = text.split(",")[-5:] if text else []
        assert [tokens[i - 2] if i >= 2 else "rare" for i in found.tolist()] == [
            token if token in tokens else "rare" for token in kept
        ]
    assert batch.label.tolist() == [float(raw["click"][row].as_py()) for row in rows]
    assert batch.row.tolist() == rows.tolist()
    assert small.store.row_ids(rows).to_pylist() == [f"row-{row}" for row in rows]


def test_dense_is_standardized_with_nulls_at_zero_and_one_indicator(tmp_path: Path) -> None:
    raw = small_table()
    split = prepare_small(raw, tmp_path / "raw", tmp_path / "out", numeric_transform="standardize").split("full")
    dense = split.batch(np.arange(2000), []).dense.numpy()
    assert split.schema.dense == ("x_1", "x_2", "x_10", "isnull(x_1+1)")
    null = raw["x_1"].is_null().to_numpy()
    assert np.array_equal(dense[:, 3], null.astype(np.float32))
    assert np.all(dense[null][:, :2] == 0)
    x = raw["x_1"].to_numpy()[~null]
    low, high = np.quantile(x, [0.001, 0.999])
    clipped = np.clip(x, low, high)
    assert np.allclose(dense[~null][:, 0], (clipped - clipped.mean()) / clipped.std(), atol=1e-4)


def test_steps_carry_their_values_as_weights(small: PreparedDataset) -> None:
    split = small.split("full")
    batch = split.batch(np.arange(50), ["seen", "steps"])
    null = small_table()["x_1"].is_null().to_numpy()[:50]
    steps = batch.sequences["steps"]
    assert steps.lengths().tolist() == np.where(null, 1, 3).tolist()
    row = int(np.flatnonzero(~null)[0])
    assert steps.to_dense()[row].tolist() == [0, 1, 2]
    assert torch.allclose(steps.to_dense_weights()[row], batch.dense[row, :3])
    assert torch.all(batch.sequences["seen"].weights() == 1)


def test_a_row_does_not_depend_on_other_rows(small: PreparedDataset) -> None:
    split = small.split("fold_1")
    alone, together = split.batch(np.array([3]), ["seen"]), split.batch(np.array([9, 3, 4]), ["seen"])
    assert torch.equal(alone.dense[0], together.dense[1])
    assert alone.sparse["shop"].values()[0] == together.sparse["shop"].values()[1]
    assert torch.equal(alone.sequences["seen"].to_dense()[0], together.sequences["seen"].to_dense()[1])


def test_folds_partition_the_training_rows(small: PreparedDataset) -> None:
    seen = []
    for fold in range(5):
        split = small.split(f"fold_{fold}")
        held_out = split.held_out_rows.numbers()
        fitted = split.fit_rows.numbers()
        assert np.array_equal(np.sort(np.concatenate([held_out, fitted])), np.arange(2000))
        seen.append(held_out)
        label = small.store.labels(fitted)
        assert split.prior.n_positive == label.sum()
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(2000))


def test_rows_of_several_record_batches(tmp_path: Path) -> None:
    n = 2 * BLOCK_ROWS + 10
    table = small_table(n)
    dataset = prepare_small(table, tmp_path / "raw", tmp_path / "out")
    rows = np.array([0, BLOCK_ROWS - 1, BLOCK_ROWS, n - 1, 2 * BLOCK_ROWS])
    label = table["click"].to_numpy()
    assert np.array_equal(dataset.store.labels(rows), label[rows])
    x = table["x_10"].to_numpy()
    assert np.array_equal(dataset.store.read_measured(rows)[:, 2], x[rows].astype(np.float32))
    codes, lengths = dataset.store.read_tokens("seen", rows)
    tokens = dataset.vocabularies["seen"].values.to_pylist()
    texts = [table["seen"][int(row)].as_py() for row in rows]
    kept = [token for text in texts for token in (text.split(",")[-5:] if text else [])]
    assert [tokens[code - 2] for code in codes] == kept
    assert lengths.sum() == len(kept)


def test_segments(small: PreparedDataset) -> None:
    found = small.segments(np.arange(100))
    texts = small_table()["seen"].to_pylist()[:100]
    expected = ["returning" if text and text.count(",") >= 1 else "new" for text in texts]
    assert found["user"].to_pylist() == expected
    colors = small_table()["color"].to_pylist()[:100]
    assert found["color"].to_pylist() == ["missing" if color is None else color for color in colors]


def test_empty_batch(small: PreparedDataset) -> None:
    assert len(small.split("full").batch(np.zeros(0, np.int64), ["seen"])) == 0


def test_unknown_split_lists_the_known(small: PreparedDataset) -> None:
    with pytest.raises(InputError, match="no split 'fold_9': it has full, fold_0"):
        small.split("fold_9")


def test_unfinished_or_broken_folders_are_refused(small: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no DONE file: run python -m pipelines.prepare first"):
        PreparedDataset.open(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(small.folder, copy)
    os.truncate(copy / "rows.arrow", 1000)
    with pytest.raises(InputError, match="rows.arrow has 1,000 bytes, expected"):
        PreparedDataset.open(copy)
    seal(copy)  # with the checksum of the truncated file
    with pytest.raises(InputError, match="rows.arrow is not a complete Arrow file"):
        PreparedDataset.open(copy)


def test_another_format_version_is_refused(small: PreparedDataset, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(small.folder, copy)
    path = copy / "schema.json"
    path.write_text(path.read_text().replace(f'"format_version": {FORMAT_VERSION}', '"format_version": 0'))
    with pytest.raises(InputError, match="was prepared by another version"):
        PreparedDataset.open(copy)


def test_data_of_format_3_opens_without_users_and_windows(tmp_path: Path) -> None:
    """As it was written before there were forward windows; its histories held steps of the same day."""
    log = {"kind": "log", "key": "shop", "item": "color", "order": "day", "history_until": "row"}
    schema = small_schema(sequences={"bought": log}, segments={})
    dataset = prepare_small(small_table(), tmp_path / "raw", tmp_path / "out", schema)
    old = copy_in_format_3(dataset.folder, tmp_path / "old")
    found = PreparedDataset.open(old)
    assert found.split_names == ("full", *(f"fold_{fold}" for fold in range(5)), "holdout")
    assert found.manifest.schema_config == dataset.manifest.schema_config  # a config with `row` is the same
    for name in found.split_names:
        split, expected = found.split(name), dataset.split(name)
        assert np.array_equal(split.fit_rows.numbers(), expected.fit_rows.numbers())
        assert split.evaluation_rows.keys() == expected.evaluation_rows.keys()
    assert found.store.users(np.arange(3)) is None
    with pytest.raises(InputError, match="forward windows need .* data prepared by this version"):
        found.split("forward_1")
