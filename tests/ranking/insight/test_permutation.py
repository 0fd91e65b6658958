from pathlib import Path

import numpy as np

from ranking.insight.feature_sets import feature_groups, feature_set, single_features
from ranking.insight.permutation import held_out_rows, permuted_rows
from recsys.data.dataset import PreparedDataset
from recsys.data.store import RowStore
from tests.helpers.small import prepare_small, small_schema, small_table
from tests.helpers.vector_data import SIZE, prepared_vectors, vector_schema, vector_table


def test_only_the_columns_of_the_set_are_taken_from_other_rows(small: PreparedDataset) -> None:
    schema, numbers = small.manifest.schema_, np.arange(40)
    rows, order = small.store.encoded(numbers), np.roll(numbers, 7)
    positions = np.array([3, 0, 39])
    found = permuted_rows(rows, positions, order, feature_set("some", ["shop", "x_10", "seen"], schema), schema)
    source = order[positions]
    for values, permuted, names in (
        (rows.sparse, found.sparse, schema.categorical),
        (rows.measured, found.measured, schema.measured),
    ):
        for column, name in enumerate(names):
            expected = values[source if name in ("shop", "x_10") else positions, column]
            np.testing.assert_array_equal(permuted[:, column], expected)
    offsets, codes = found.tokens["seen"]
    for index, row in enumerate(source):
        expected, _ = small.store.read_tokens("seen", np.array([row]))
        np.testing.assert_array_equal(codes[offsets[index] : offsets[index + 1]], expected)


def test_encodings_of_tokens_are_permuted_with_them_or_alone(tmp_path: Path) -> None:
    schema_config = small_schema(encodings={"color": ["ctr"], "seen": ["ctr"]})
    dataset = prepare_small(small_table(), tmp_path / "raw", tmp_path / "out", schema_config)
    schema, split, numbers = dataset.manifest.schema_, dataset.split("fold_0"), np.arange(40)
    rows, order = dataset.store.encoded(numbers), np.roll(numbers, 7)
    features = single_features(schema, ["color", "shop"], has_retrieval_score=False)
    groups = {one.name: one for one in feature_groups(schema, schema_config, features)}
    assert groups["encodings"].members == ("color", "seen")
    for features_set, of_ids, of_encodings in (
        (None, numbers, numbers),
        (feature_set("seen", ["seen"], schema), order, order),
        (groups["encodings"], numbers, order),
    ):
        permuted = RowStore.from_encoded(permuted_rows(rows, numbers, order, features_set, schema), schema)
        found = split.encoder.batch(permuted, numbers, ["seen"])
        plain = RowStore.from_encoded(rows, schema)
        np.testing.assert_array_equal(found.dense[:, -5:], split.encoder.batch(plain, of_encodings, ()).dense[:, -5:])
        expected = split.encoder.batch(plain, of_ids, ["seen"]).sequences
        np.testing.assert_array_equal(found.sequences.values(), expected.values())


def test_a_group_of_columns_is_permuted_as_one_sequence(small: PreparedDataset) -> None:
    schema = small.manifest.schema_
    features = single_features(schema, schema.categorical, has_retrieval_score=False)
    assert [one.name for one in features] == ["color", "shop", *schema.numeric, "seen", "steps"]
    assert features[-1].measured == {"x_1", "x_2", "x_10"}
    groups = {one.name: one for one in feature_groups(schema, small.manifest.schema_config, features)}
    assert groups.keys() == {"x_*", "sequences"}
    assert groups["sequences"].members == ("seen", "steps")


def test_a_sample_has_the_share_of_every_fold_and_none_of_its_fitting_rows(small: PreparedDataset) -> None:
    splits = [name for name in small.split_names if name.startswith("fold_")]
    sampled = held_out_rows(small, splits, 500, seed=0)
    assert abs(sum(len(fold.numbers) for fold in sampled) - 500) <= len(splits)
    for fold in sampled:
        assert not np.isin(fold.numbers, small.split(fold.split).fit_rows.numbers()).any()
        assert len(np.unique(fold.numbers)) == len(fold.numbers)


def test_a_vector_is_permuted_as_one_feature(tmp_path: Path) -> None:
    schema_config = vector_schema(towers={"item": ["item", "image"], "user": ["device"]})
    dataset = prepared_vectors(vector_table(60), tmp_path, schema_config)
    schema, numbers = dataset.manifest.schema_, np.arange(40)
    features = single_features(schema, schema.categorical, has_retrieval_score=False)
    assert [one.name for one in features] == ["item", "device", "price", "image", "seen"]
    assert features[3].measured == {f"image_{number}" for number in range(SIZE)}
    rows, order = dataset.store.encoded(numbers), np.roll(numbers, 7)
    found = permuted_rows(rows, numbers, order, features[3], schema)
    np.testing.assert_array_equal(found.measured[:, 0], rows.measured[:, 0])
    np.testing.assert_array_equal(found.measured[:, 1:], rows.measured[order, 1:])
    np.testing.assert_array_equal(found.sparse, rows.sparse)
    groups = {one.name: one.members for one in feature_groups(schema, schema_config, features)}
    assert groups["item"] == ("item", "image")
