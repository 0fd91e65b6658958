"""The peak memory of this process, which psutil cannot reset."""

import contextlib
import resource
import sys
from pathlib import Path


def forget_peak_rss() -> None:
    """Begins `peak_rss_gib` anew, where the system can: a process of many fits then knows each one's own."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_rss_gib() -> float:
    """The largest resident memory of this process so far, or since `forget_peak_rss`, in GiB."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20
