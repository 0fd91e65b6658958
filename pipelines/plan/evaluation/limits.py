"""Measures the latency and the memory of finished runs, for gates with limits."""

import time
from pathlib import Path

import numpy as np
import torch

from pipelines.plan.state import PlanState
from ranking.scoring import find_run_data, load_scorer
from recsys.data.dataset import PreparedDataset
from recsys.evaluation.gates import LatencyGate, MemoryGate
from recsys.runs.metrics import RunMetrics, TrainSummary, read_metrics
from recsys.system.files import is_done
from recsys.system.memory import peak_rss_gib, reset_peak_rss
from recsys.system.world import World

_N_WARM_UP = 5
_SCORED_ROWS = 65_536
"""Rows of the block whose scoring is measured."""
_GIB = 2**30


def measure_latency(state: PlanState, gate: LatencyGate, dataset: PreparedDataset, world: World) -> float | None:
    """The 99th percentile of the time of a request in milliseconds; None if the run is not finished.

    A request is the encoded rows of its candidates. The scorer averages all fits of the run, and all members of an
    ensemble.
    """
    folder = state.folder(gate.run)
    if not is_done(folder):
        return None
    scorer = load_scorer(folder, find_run_data(folder), dataset, world)
    rng, milliseconds = np.random.default_rng(0), []
    for number in range(_N_WARM_UP + gate.n_requests):
        rows = dataset.store.encoded(np.sort(rng.integers(0, dataset.n_rows, gate.n_candidates)))
        start = time.perf_counter()
        scorer.natural_logit(rows)
        if number >= _N_WARM_UP:
            milliseconds.append(1000 * (time.perf_counter() - start))
    return float(np.quantile(milliseconds, 0.99))


def measure_memory(state: PlanState, gate: MemoryGate, dataset: PreparedDataset, world: World) -> float | None:
    """The peak memory of training or scoring in GiB; None if the run is not finished."""
    folder = state.folder(gate.run)
    if not is_done(folder):
        return None
    if gate.of == "training":
        return max(_training_peaks(read_metrics(folder), gate.device), default=None)
    reset_peak_rss()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    scorer = load_scorer(folder, find_run_data(folder), dataset, world)
    scorer.natural_logit(dataset.store.encoded(np.arange(min(_SCORED_ROWS, dataset.n_rows))))
    if gate.device == "ram":
        return peak_rss_gib()
    return torch.cuda.max_memory_allocated() / _GIB if torch.cuda.is_available() else 0.0


def _training_peaks(metrics: RunMetrics, device: str) -> list[float]:
    """The peak memory of the training of a run, or of each member of an ensemble."""
    if isinstance(metrics.train, TrainSummary):
        return [metrics.train.peak_rss_gib if device == "ram" else metrics.train.peak_gpu_gib]
    members = [read_metrics(Path(folder)) for folder in (metrics.member_folders or {}).values()]
    return [peak for member in members for peak in _training_peaks(member, device)]
