"""Latency of requests to an exported bundle beside that of its run, load of the server, smaller tables, and trade-offs.

python -m benchmarks.serving latency
python -m benchmarks.serving load
python -m benchmarks.serving tables
python -m benchmarks.serving trade --plan runs/plan
"""

import json
import subprocess
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from benchmarks.serving.latency import CANDIDATES
from benchmarks.serving.requests import bundle_of
from benchmarks.serving.server_load import measure_server
from benchmarks.serving.tables import measure_tables
from benchmarks.serving.trade import measure_trade
from pipelines.common.cli import run_pipeline
from recsys.system.progress import console

TARGETS = {"dcnv2": (1.0, 2.0, 8.0), "din": (1.5, 3.0, 15.0), "gbdt": (1.0, 1.5, 6.0)}
"""p50 in milliseconds by number of candidates, on two free cores."""
_BLOCK, _PAUSE_S = 50, 0.1
"""Requests that are timed in a row, and the pause before them: threads of torch spin for a while after a call."""
_MAX_DIFFERENCE = 0.1
"""In logit: the run multiplies in bfloat16."""


class Measurement(StrEnum):
    """The measurement to run."""

    LATENCY = "latency"
    LOAD = "load"
    TABLES = "tables"
    TRADE = "trade"


def serving(
    measurement: Annotated[Measurement, typer.Argument(help="The measurement to run.")],
    models: Annotated[list[str] | None, typer.Option(help="Models; repeat the option for more.")] = None,
    requests: Annotated[int, typer.Option(min=50, help="Requests per number of candidates.")] = 200,
    rate: Annotated[float, typer.Option(min=1, help="Requests per second of the load.")] = 500.0,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of the load.")] = 20.0,
    steady: Annotated[int, typer.Option(min=0, help="Requests over which the memory is watched.")] = 100_000,
    plan: Annotated[Path, typer.Option(help="Finished plan, for `trade`.")] = Path("runs/plan"),
    data: Annotated[Path, typer.Option(help="Folder for runs and bundles.")] = Path("data/benchmark-serving"),
) -> None:
    """Measure latency, load, smaller tables, or score against latency.

    Models are trained briefly on generated rows, except for `trade`, which
    reads a finished plan: of the others only their speed counts.
    """
    match measurement:
        case Measurement.LATENCY:
            latency(models or list(TARGETS), requests, data)
        case Measurement.LOAD:
            measure_server(bundle_of((models or ["dcnv2"])[0], data), rate, seconds, steady, data)
        case Measurement.TABLES:
            measure_tables(models or ["dcnv2", "xdeepfm", "ft_transformer", "din"], data)
        case Measurement.TRADE:
            measure_trade(plan, requests, data)


def latency(models: list[str], n_requests: int, data: Path) -> None:
    """Prints latencies of both paths, timed in turn, in blocks of requests."""
    table = Table(title="one user with candidates, milliseconds", title_justify="left")
    heads = ("run p50", "p99", "bundle p50", "p99", "target p50", "run cpu", "bundle cpu", "encoding cpu")
    for column in ("model", "candidates", *heads):
        table.add_column(column, justify="left" if column == "model" else "right")
    for model in models:
        run, bundle = bundle_of(model, data)
        workers = {kind: _start(kind, run, bundle, n_requests) for kind in ("run", "bundle")}
        logits = {kind: json.loads(_answer(worker)) for kind, worker in workers.items()}
        for n in logits["run"]:
            assert np.abs(np.subtract(logits["run"][n], logits["bundle"][n])).max() < _MAX_DIFFERENCE
        for position, n in enumerate(CANDIDATES):
            times: dict[str, dict[str, list[float]]] = {kind: {} for kind in workers}
            for first in range(0, n_requests, _BLOCK):
                for kind, worker in workers.items():
                    time.sleep(_PAUSE_S)
                    _stream(worker.stdin).write(f"{n} {first} {_BLOCK}\n")
                    _stream(worker.stdin).flush()
                    for name, values in json.loads(_answer(worker)).items():
                        times[kind].setdefault(name, []).extend(values)
            quantiles = [np.quantile(times[kind]["clock"], [0.5, 0.99]) for kind in ("run", "bundle")]
            cpu = [np.median(times[kind]["cpu"]) for kind in ("run", "bundle")]
            cpu.append(np.median(times["bundle"]["encoding_cpu"]))
            target = f"{TARGETS[model][position]:.1f}" if model in TARGETS else ""
            figures = [f"{value:.2f}" for value in np.concatenate(quantiles)]
            table.add_row(model, str(n), *figures, target, *(f"{value:.2f}" for value in cpu))
        for worker in workers.values():
            _stream(worker.stdin).close()
            worker.wait()
    console.print(table)


def _start(kind: str, run: Path, bundle: Path, n_requests: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.serving.latency", kind, str(run), str(bundle)]
    pipe: Any = subprocess.PIPE
    return subprocess.Popen([*command, str(n_requests)], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)


def _answer(worker: "subprocess.Popen[str]") -> str:
    line = _stream(worker.stdout).readline()
    if not line:
        raise RuntimeError(f"a timed process ended with code {worker.wait()}")
    return line


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


if __name__ == "__main__":
    run_pipeline(serving)
