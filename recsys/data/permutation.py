"""A seeded permutation of 0 .. n - 1 that needs no memory: any stretch of it is computed when it is asked for."""

import numpy as np

_N_ROUNDS = 6


class Permutation:
    """A keyed bijection of {0, ..., n - 1}: a balanced Feistel network on the next power of four, walked until it
    lands inside the range (Black & Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002).

    Args:
        n: how many numbers are permuted, at least 0.
        seed: any non-negative integers, such as (seed, epoch).
    """

    def __init__(self, n: int, *seed: int) -> None:
        self.n = n
        self._half_bits = np.uint64(max(1, (max(n - 1, 1).bit_length() + 1) // 2))
        self._mask = np.uint64((1 << int(self._half_bits)) - 1)
        self._keys = np.random.SeedSequence(seed).generate_state(_N_ROUNDS, np.uint64)

    def __call__(self, index: np.ndarray) -> np.ndarray:
        """[b] places in the permutation, in 0 .. n - 1, to the [b] int64 numbers that stand there."""
        out = index.astype(np.uint64)
        outside = np.arange(len(out))
        while len(outside):
            out[outside] = self._encrypt(out[outside])
            outside = outside[out[outside] >= self.n]
        return out.astype(np.int64)

    def _encrypt(self, x: np.ndarray) -> np.ndarray:
        left, right = x >> self._half_bits, x & self._mask
        with np.errstate(over="ignore"):
            for key in self._keys:
                mixed = (right + key) * np.uint64(0x9E3779B97F4A7C15)
                mixed ^= mixed >> np.uint64(29)
                mixed *= np.uint64(0xBF58476D1CE4E5B9)
                left, right = right, left ^ ((mixed >> np.uint64(32)) & self._mask)
        return (left << self._half_bits) | right
