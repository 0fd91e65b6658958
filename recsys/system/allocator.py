"""Settings of glibc's memory allocator that make training faster."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for reuse; does nothing on systems other than Linux.

    By default, glibc returns every freed block over 32 MiB to the system. The activations of a large batch are such
    blocks: the system would map and zero them again at every layer of every step.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
