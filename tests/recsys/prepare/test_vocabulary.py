import numpy as np
import pyarrow as pa

from recsys.data.vocabulary import MISSING_ID, RARE_ID, Vocabulary
from recsys.prepare.vocabulary import VocabularyCounter
from recsys.raw.tokens import encode_values

# Groups 0 and 1:   a  a  b  b  b  c     a  c  d
VALUES = ["a", "a", "b", "b", "b", "c", "a", "c", "d", None]
GROUP = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1], np.uint8)


def count(min_count: int, order: np.ndarray | None = None, n_batches: int = 1) -> Vocabulary:
    counter = VocabularyCounter(2)
    for rows in np.array_split(np.arange(len(VALUES)) if order is None else order, n_batches):
        counter.add(encode_values(pa.array([VALUES[i] for i in rows], pa.string())), GROUP[rows])
    return counter.finish(min_count)


def test_values_are_sorted_by_count_and_reach_min_count() -> None:
    vocabulary = count(min_count=2)
    assert vocabulary.values.to_pylist() == ["a", "b", "c"]  # 3, 3, 2; ties by text
    assert vocabulary.counts.tolist() == [[2, 1], [3, 0], [1, 1]]
    assert vocabulary.n_rare == 1


def test_encoded_values_below_min_count_have_codes_but_no_embedding() -> None:
    """c occurs twice, d once; the ids of a split are those of a vocabulary that lacks both."""
    counter = VocabularyCounter(2)
    counter.add(encode_values(pa.array(VALUES, pa.string())), GROUP)
    vocabulary, plain = counter.finish(3, is_encoded=True), count(min_count=3)
    assert vocabulary.values.to_pylist() == ["a", "b", "c"]
    assert (vocabulary.n_rare, vocabulary.min_count) == (1, 3)
    assert plain.values.to_pylist() == ["a", "b"]
    (ids, n_ids), (plain_ids, n_plain) = vocabulary.fit_split([0, 1], 3), plain.fit_split([0, 1], 3)
    assert n_ids == n_plain
    assert ids.tolist() == [*plain_ids.tolist(), RARE_ID]


def test_order_and_size_of_batches_do_not_matter() -> None:
    expected = count(2)
    for seed in range(5):
        found = count(2, np.random.default_rng(seed).permutation(len(VALUES)), n_batches=3)
        assert found.values.equals(expected.values)
        assert np.array_equal(found.counts, expected.counts)


def test_encode_missing_rare_and_unseen() -> None:
    codes = count(2).encode(encode_values(pa.array(["b", None, "d", "never", "a"])))
    assert codes.tolist() == [3, MISSING_ID, RARE_ID, RARE_ID, 2]


def test_ids_of_a_split_follow_the_counts_of_the_split() -> None:
    vocabulary = count(2)
    # Without group 1: b 3, a 2, c 1, so that b comes first and c is rare.
    ids, n = vocabulary.fit_split([0], 2)
    assert n == 4
    assert ids.tolist() == [MISSING_ID, RARE_ID, 3, 2, RARE_ID]
    # Without group 0 no value reaches min_count.
    ids, n = vocabulary.fit_split([1], 2)
    assert n == 2
    assert ids.tolist() == [MISSING_ID, RARE_ID, RARE_ID, RARE_ID, RARE_ID]


def test_an_empty_stream_is_an_empty_vocabulary() -> None:
    vocabulary = VocabularyCounter(2).finish(2)
    assert vocabulary.encode(encode_values(pa.array(["x", None]))).tolist() == [RARE_ID, MISSING_ID]


def test_integers_and_text_share_a_vocabulary() -> None:
    counter = VocabularyCounter(1)
    counter.add(encode_values(pa.array([7, 7], pa.int16())), np.zeros(2, np.uint8))
    counter.add(encode_values(pa.array(["7"])), np.zeros(1, np.uint8))
    counter.add(encode_values(pa.array([7.0], pa.float32())), np.zeros(1, np.uint8))
    assert counter.finish(1).counts.tolist() == [[4]]
