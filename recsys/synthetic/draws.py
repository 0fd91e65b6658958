"""Random numbers as functions of a stream name and an index: block size and order cannot change them."""

import hashlib

import numpy as np
from scipy.special import ndtri

from recsys.system.hashing import as_fraction, mix

Index = np.ndarray


class Draws:
    """Counter-based random streams without state.

    Args:
        seed: the user seed.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def bits(self, stream: str, index: Index) -> np.ndarray:
        """Returns uint64 bits of the shape of `index` (non-negative integers)."""
        stream_key = int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=8).digest(), "little")
        return mix(mix(index.astype(np.uint64), stream_key), self._seed)

    def uniform(self, stream: str, index: Index) -> np.ndarray:
        """Returns uniform float64 in [0, 1) of the shape of `index`."""
        return as_fraction(self.bits(stream, index))

    def normal(self, stream: str, index: Index) -> np.ndarray:
        """Returns standard normal float64 of the shape of `index`."""
        return ndtri(self.uniform(stream, index) + 2.0**-54)

    def normals(self, stream: str, index: Index, width: int) -> np.ndarray:
        """Returns [n, width] standard normal float64 for [n] indices."""
        return self.normal(stream, index[:, None] * width + np.arange(width))


def draw_categorical(shares: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Draws indices in proportion to `shares`, from uniform numbers."""
    cumulative = np.cumsum(shares)
    return np.searchsorted(cumulative / cumulative[-1], uniform, side="right").clip(max=len(shares) - 1)


def from_quantiles(quantiles: tuple[float, ...], uniform: np.ndarray) -> np.ndarray:
    """Inverse of a distribution function through min, quartiles and max.

    Linear between the quartiles. The outer quarters are power functions that continue the slope of the inner quarter,
    so that a distant minimum or maximum gives a thin tail.
    """
    low, q25, q50, q75, high = quantiles
    values = np.interp(uniform, [0.25, 0.5, 0.75], [q25, q50, q75])
    for is_tail, depth, edge, end, inner in (
        (uniform > 0.75, (uniform - 0.75) / 0.25, q75, high, q75 - q50),
        (uniform < 0.25, (0.25 - uniform) / 0.25, q25, low, q50 - q25),
    ):
        power = np.clip(abs(end - edge) / max(abs(inner), 1e-12), 1.0, 300.0)
        values = np.where(is_tail, edge + (end - edge) * np.clip(depth, 0, 1) ** power, values)
    return values
