"""Loads a server of a bundle: a fixed rate, clients that vanish, swaps, more than it can answer, and its memory."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from benchmarks.serving.load import HEAD, Connection
from benchmarks.serving.requests import make_requests
from ranking.scoring import find_run_data
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.system.progress import console
from serving.runtime.bundle import Bundle

N_CANDIDATES, N_BODIES, N_CONNECTIONS = 32, 200, 64
START_TIMEOUT_S, POLL_S = 60.0, 0.1


def measure_server(paths: tuple[Path, Path], rate: float, seconds: float, steady: int, data: Path) -> None:
    """Measures a server of a run's bundle.

    Args:
        paths: the run and its bundle.
        rate: requests per second.
        seconds: duration of each load.
        steady: requests over which the memory is watched.
        data: folder of the file with the requests.
    """
    run, bundle = paths
    dataset = PreparedDataset.open(find_run_data(run).folder)
    cases = make_requests(dataset, Bundle.load(bundle, 1).columns, N_CANDIDATES, N_BODIES)
    bodies = data / "bodies.jsonl"
    lines = [json.dumps({"user": case.user, "candidates": case.candidates}) for case in cases]
    bodies.write_text("\n".join(lines), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "pipelines.serve", str(bundle), "--port", str(port)])
    try:
        _wait_for(port)
        process = psutil.Process(server.pid)
        _print("warm-up", _load(port, bodies, rate / 5, 2, N_CONNECTIONS))
        _print(f"{rate:.0f} a second", _load(port, bodies, rate, seconds, N_CONNECTIONS))
        swapping = _start(port, bodies, rate / 2, seconds, N_CONNECTIONS)
        swaps = 0
        while swapping.poll() is None:
            _post(port, "/swap", {"bundle": str(bundle.absolute())})
            asyncio.run(_abandon(port, lines[0].encode()))
            swaps += 1
            time.sleep(1)
        _print(f"{swaps} swaps and killed clients", _result(swapping))
        _print("too many", _load(port, bodies, 20 * rate, seconds / 4, 1000))
        _print("after them", _load(port, bodies, rate / 2, seconds / 4, N_CONNECTIONS))
        before = process.memory_info().rss
        if steady:
            _print(f"{steady:,} requests", _load(port, bodies, rate, steady / rate, N_CONNECTIONS))
            after = process.memory_info().rss
            console.print(f"memory: {before / 2**20:.1f} MiB, then {after / 2**20:.1f} MiB")
    finally:
        server.send_signal(signal.SIGTERM)
    console.print(f"the server ended with code {server.wait(START_TIMEOUT_S)}; {os.cpu_count()} cores")


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise InputError(f"the server did not start in {START_TIMEOUT_S:.0f} s: see its messages") from error
            time.sleep(POLL_S)


def _post(port: int, path: str, values: dict[str, Any]) -> None:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", json.dumps(values).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=START_TIMEOUT_S):
        pass


async def _abandon(port: int, body: bytes) -> None:
    await Connection(port).abandon(HEAD.format(len(body)).encode() + body)


def _start(port: int, bodies: Path, rate: float, seconds: float, n_connections: int) -> "subprocess.Popen[str]":
    arguments = [str(value) for value in (port, bodies, rate, seconds, n_connections)]
    command = [sys.executable, "-m", "benchmarks.serving.load", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _load(port: int, bodies: Path, rate: float, seconds: float, n_connections: int) -> dict[str, Any]:
    return _result(_start(port, bodies, rate, seconds, n_connections))


def _result(loading: "subprocess.Popen[str]") -> dict[str, Any]:
    output, _ = loading.communicate()
    if loading.returncode != 0:
        raise RuntimeError(f"the load ended with code {loading.returncode}")
    result: dict[str, Any] = json.loads(output)
    return result


def _print(name: str, result: dict[str, Any]) -> None:
    times = f"p50 {result['p50']:.1f} ms, p99 {result['p99']:.1f} ms"
    console.print(f"{name}: {result['n']:,} requests, {result['per_s']:.0f}/s, {times}, status {result['statuses']}")
