"""Hashes of ids: an integer and its text are one id."""

import numpy as np
import pyarrow as pa

from recsys.system.hashing import hash_ids

INTEGERS = [0, 1, -1, 5, 10**18, 10**18 - 1, 2**63 - 1, -(2**63), -(10**18)]


def test_an_integer_and_its_text_have_one_hash() -> None:
    hashes = hash_ids(pa.array(INTEGERS))
    assert np.array_equal(hashes, np.array(INTEGERS, np.int64).view(np.uint64))
    assert np.array_equal(hash_ids(pa.array([str(number) for number in INTEGERS])), hashes)
    assert np.array_equal(hash_ids(pa.array([5, 2**63], pa.uint64())), hash_ids(pa.array(["5", str(2**63)])))


def test_white_space_around_an_id_does_not_count() -> None:
    assert np.array_equal(hash_ids(pa.array([" 5", "a\t"])), hash_ids(pa.array(["5", "a"])))


def test_text_that_is_no_canonical_integer_is_another_id() -> None:
    texts = ["5", "05", "+5", "5.0", "-0", "0", "", "a", str(2**63), str(2**64 - 1), str(-(2**63) - 1), "9" * 19]
    hashes = hash_ids(pa.array(texts))
    assert len(set(hashes.tolist())) == len(texts)
    assert hash_ids(pa.array([-1]))[0] != hash_ids(pa.array([2**64 - 1], pa.uint64()))[0]
