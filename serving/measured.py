"""Measures a bundle as a server would run it: in a process of its own, which imports no torch.

python -m serving.measured BUNDLE < requests    # one request in JSON a line
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recsys.errors import InputError
from recsys.system.memory import peak_rss_gib

_N_WARM_UP = 5


@dataclass(frozen=True)
class Measured:
    """What a bundle costs on this machine."""

    p50_ms: float
    """Median time of a request: reading, encoding and scoring its candidates."""
    p99_ms: float
    peak_gib: float
    """Largest resident memory of the process, with the interpreter and the libraries."""
    load_s: float
    """Time to load the bundle, with its checksums."""


def measure_bundle(bundle: Path, requests: Sequence[dict[str, Any]]) -> Measured:
    """Scores requests with a bundle in another process; the first ones, which fill the caches, are asked twice.

    Args:
        bundle: the folder.
        requests: each with `candidates` and `user`, as a server reads them.

    Raises:
        InputError: when the process fails, such as for want of memory.
    """
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    command = [sys.executable, "-m", "serving.measured", str(bundle)]
    process = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    if process.returncode:
        reason = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"{bundle} could not be measured (exit status {process.returncode}): {reason}")
    return Measured(**json.loads(process.stdout))


def _main(folder: str) -> None:
    from serving.runtime.bundle import Bundle

    start = time.perf_counter()
    bundle = Bundle.load(Path(folder))
    load_s = time.perf_counter() - start
    requests, milliseconds = [json.loads(line) for line in sys.stdin], []
    for request in requests[:_N_WARM_UP]:
        bundle.score(request["candidates"], request["user"])
    for request in requests:
        start = time.perf_counter()
        bundle.score(request["candidates"], request["user"])
        milliseconds.append(1000 * (time.perf_counter() - start))
    p50, p99 = np.quantile(milliseconds, [0.5, 0.99]).tolist()
    print(json.dumps(asdict(Measured(p50, p99, peak_rss_gib(), load_s))))


if __name__ == "__main__":
    _main(sys.argv[1])
