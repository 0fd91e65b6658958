"""Hashes and permutations of `recsys.system.hashing` and `recsys.data.rows` on a device, bit for bit the same.

Torch has no arithmetic on uint64: the values are kept in int64, whose products and sums wrap in the same way.
"""

import torch
from torch import Tensor

from recsys.data.rows import MIXER, Permutation
from recsys.system.hashing import FINALIZER, GOLDEN


def mix(hashes: Tensor, seed: int) -> Tensor:
    """See `recsys.system.hashing.mix`: [n] int64 to [n] int64."""
    z = hashes + _signed(int(GOLDEN) * (seed + 1))
    for shift, factor in FINALIZER:
        z = (z ^ _shifted(z, shift)) * _signed(factor)
    return z ^ _shifted(z, 31)


def as_fraction(hashes: Tensor) -> Tensor:
    """See `recsys.system.hashing.as_fraction`: [n] int64 to [n] float64 in [0, 1)."""
    return _shifted(hashes, 11).double() * 2.0**-53


def permuted(permutation: Permutation, device: torch.device) -> Tensor:
    """Returns the [n] int64 values of a permutation at the positions 0 .. n - 1."""
    values = _encrypt(permutation, torch.arange(permutation.n, device=device))
    while len(outside := (values >= permutation.n).nonzero().squeeze(1)):
        values[outside] = _encrypt(permutation, values[outside])
    return values


def _encrypt(permutation: Permutation, x: Tensor) -> Tensor:
    half_bits, mask = int(permutation.half_bits), int(permutation.mask)
    left, right = x >> half_bits, x & mask
    for key in permutation.keys:
        mixed = (right + _signed(int(key))) * _signed(int(GOLDEN))
        mixed = (mixed ^ _shifted(mixed, 29)) * _signed(int(MIXER))
        left, right = right, left ^ (_shifted(mixed, 32) & mask)
    return (left << half_bits) | right


def _shifted(x: Tensor, n: int) -> Tensor:
    """Shifts right by n bits, filling with zeros as for unsigned numbers."""
    return (x >> n) & ((1 << (64 - n)) - 1)


def _signed(value: int) -> int:
    """The int64 with the same low 64 bits."""
    value %= 1 << 64
    return value - (1 << 64) if value >= 1 << 63 else value
