"""A setting of the C library's allocator that training is faster with."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory() -> None:
    """Keeps freed blocks for the next of their size.

    glibc returns every block over 32 MiB to the system when it is freed. The activations of a large batch are such
    blocks: they would be mapped and zeroed anew at every layer of every step. Elsewhere this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
