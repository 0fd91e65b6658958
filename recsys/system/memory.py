"""Peak memory of this process. Unlike that of psutil, it can be reset."""

import contextlib
import resource
import sys
from pathlib import Path


def reset_peak_rss() -> None:
    """Resets the peak of `peak_rss_gib` where the system allows it, to measure each of several fits."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_rss_gib() -> float:
    """Returns the largest resident memory of this process since its start or `reset_peak_rss`, in GiB."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20
