"""Measures the latency and the memory of finished runs, for gates with limits."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pipelines.plan.state import PlanState
from ranking.scoring import find_run_data, load_scorer
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.evaluation.gates import LatencyGate, MemoryGate
from recsys.runs.metrics import RunMetrics, TrainSummary, read_metrics
from recsys.system.files import is_done
from recsys.system.memory import peak_rss_gib, reset_peak_rss
from recsys.system.progress import console
from recsys.system.world import World
from serving.export.example import request_of
from serving.export.run import export_run
from serving.measured import Measured, measure_bundle

_N_WARM_UP = 5
_SCORED_ROWS = 65_536
"""Rows of the block whose scoring is measured."""
_SERVED_ROWS = 1024
"""Candidates of the request that the memory of a bundle is measured with."""
_GIB = 2**30


Measurement = tuple[float | None, str]
"""A number, None if the run is not finished, and what was measured."""


def measure_latency(state: PlanState, gate: LatencyGate, dataset: PreparedDataset, world: World) -> Measurement:
    """The 99th percentile of the time of a request in milliseconds.

    A run's own scorer averages all fits of the run, and all members of an ensemble, and gets encoded rows.
    """
    folder = state.folder(gate.run)
    if not is_done(folder):
        return None, gate.of
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, dataset.n_rows, gate.n_candidates) for _ in range(gate.n_requests)]
    if gate.of == "bundle" and (measured := _measure_bundle(folder, dataset, rows, world)) is not None:
        return measured.p99_ms, gate.of
    scorer, milliseconds = load_scorer(folder, find_run_data(folder), dataset, world), []
    for number, of_request in enumerate([*rows[:_N_WARM_UP], *rows]):
        encoded = dataset.store.encoded(np.sort(of_request))
        start = time.perf_counter()
        scorer.natural_logit(encoded)
        if number >= _N_WARM_UP:
            milliseconds.append(1000 * (time.perf_counter() - start))
    return float(np.quantile(milliseconds, 0.99)), "run"


def measure_memory(state: PlanState, gate: MemoryGate, dataset: PreparedDataset, world: World) -> Measurement:
    """The peak memory of serving, scoring or training in GiB."""
    folder = state.folder(gate.run)
    if not is_done(folder):
        return None, gate.of
    if gate.of == "training":
        return max(_training_peaks(read_metrics(folder), gate.device), default=None), gate.of
    if gate.of == "bundle":
        rows = [np.arange(min(_SERVED_ROWS, dataset.n_rows))]
        if (measured := _measure_bundle(folder, dataset, rows, world)) is not None:
            return measured.peak_gib, gate.of
    reset_peak_rss()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    scorer = load_scorer(folder, find_run_data(folder), dataset, world)
    scorer.natural_logit(dataset.store.encoded(np.arange(min(_SCORED_ROWS, dataset.n_rows))))
    if gate.device == "ram":
        return peak_rss_gib(), "scoring"
    return torch.cuda.max_memory_allocated() / _GIB if torch.cuda.is_available() else 0.0, "scoring"


def _measure_bundle(run: Path, dataset: PreparedDataset, rows: Sequence[np.ndarray], world: World) -> Measured | None:
    """Exports a run for a short time and asks for the scores of rows; None, with a line, if it cannot be exported."""
    bundle = run.with_name(f"{run.name}.bundle")
    try:
        if not is_done(bundle):  # an interrupted process may have left it
            export_run(run, find_run_data(run), dataset, bundle, world)
    except InputError as error:
        console.print(f"the run's own models are measured, because it cannot be exported: {error}")
        return None
    from serving.runtime.bundle import Bundle  # needs the packages of the extra serve

    columns = Bundle.load(bundle).columns
    measured = measure_bundle(bundle, [request_of(dataset, columns, of_request) for of_request in rows])
    shutil.rmtree(bundle)
    return measured


def _training_peaks(metrics: RunMetrics, device: str) -> list[float]:
    """The peak memory of the training of a run, or of each member of an ensemble."""
    if isinstance(metrics.train, TrainSummary):
        return [metrics.train.peak_rss_gib if device == "ram" else metrics.train.peak_gpu_gib]
    members = [read_metrics(Path(folder)) for folder in (metrics.member_folders or {}).values()]
    return [peak for member in members for peak in _training_peaks(member, device)]
