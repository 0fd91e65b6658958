"""Times requests with a run, as `ranking.scoring` scores them, or with its bundle, in a process for each.

The process reads lines `N FIRST COUNT` and answers each with the times of requests FIRST .. FIRST + COUNT of N
candidates. So the two paths are timed in turn, and the threads of torch, which spin after a call, do not run beside a
bundle's.

python -m benchmarks.serving.latency run|bundle RUN BUNDLE REQUESTS
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.requests import Case, make_requests
from ranking.scoring import find_run_data, load_scorer
from recsys.data.dataset import PreparedDataset
from recsys.prepare.encode import encode_rows
from recsys.system.allocator import keep_freed_memory
from recsys.system.threads import n_cores
from recsys.system.world import join_world
from serving.runtime.bundle import Bundle

CANDIDATES = (1, 32, 512)

Score = Callable[[Case], Any]
Timed = dict[str, list[float]]


def paths_of(kind: str, run: Path, bundle: Bundle, dataset: PreparedDataset) -> tuple[Score, Score]:
    """Returns the function that encodes a request, and the one that encodes and scores it."""
    if kind == "bundle":
        return (
            lambda case: bundle.encode(bundle.read(case.candidates, case.user)),
            lambda case: bundle.score(case.candidates, case.user).logit,
        )
    keep_freed_memory()
    schema, vocabularies = dataset.manifest.schema_, dataset.vocabularies
    scorer = load_scorer(run, find_run_data(run), dataset, join_world())
    return (
        lambda case: encode_rows(case.joined, schema, vocabularies),
        lambda case: scorer.natural_logit(encode_rows(case.joined, schema, vocabularies)),
    )


def time_calls(call: Score, cases: list[Case]) -> tuple[list[float], list[float]]:
    """Milliseconds of the clock and of the processor for each request."""
    clock, processor = [], []
    for case in cases:
        start, start_cpu = time.perf_counter(), time.process_time()
        call(case)
        clock.append(1000 * (time.perf_counter() - start))
        processor.append(1000 * (time.process_time() - start_cpu))
    return clock, processor


def main(kind: str, run: str, folder: str, n_requests: str) -> None:
    """Answers lines until the input ends."""
    dataset = PreparedDataset.open(find_run_data(Path(run)).folder)
    bundle = Bundle.load(Path(folder), n_cores())
    encode, score = paths_of(kind, Path(run), bundle, dataset)
    cases = {n: make_requests(dataset, bundle.columns, n, int(n_requests)) for n in CANDIDATES}
    logits = {n: np.concatenate([np.asarray(score(case)) for case in of_n[:3]]).tolist() for n, of_n in cases.items()}
    print(json.dumps(logits), flush=True)
    for line in sys.stdin:
        n, first, count = map(int, line.split())
        chosen = cases[n][first : first + count]
        time_calls(score, cases[n][:5])  # fills the caches
        clock, processor = time_calls(score, chosen)
        encoding, encoding_cpu = time_calls(encode, chosen)
        values = {"clock": clock, "cpu": processor, "encoding": encoding, "encoding_cpu": encoding_cpu}
        print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
