"""The server as a process: it starts, swaps at a signal, and ends when its open requests are answered."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.runtime.bundle import Bundle

ROOT = Path(__file__).parents[3]
START_S = 60.0


def call(port: int, path: str, values: Any = None) -> Any:
    body = None if values is None else json.dumps(values).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=START_S) as answer:
        return json.loads(answer.read())


@pytest.fixture
def server(bundle_of: Callable[[str], Bundle], tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """A server of a link to the bundle."""
    folder = tmp_path / "bundles"
    for model in ("dcnv2", "gbdt"):
        shutil.copytree(bundle_of(model).folder, folder / model)
    (folder / "now").symlink_to("dcnv2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pipelines.serve", str(folder / "now"), "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + START_S
    while True:
        try:
            call(port, "/health")
            break
        except OSError:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline
    try:
        yield process, port, folder
    finally:
        process.kill()
        process.communicate()


def test_signals(server: tuple[subprocess.Popen[bytes], int, Path], bundle_of: Callable[[str], Bundle]) -> None:
    process, port, folder = server
    example = bundle_of("dcnv2").example()
    assert call(port, "/score", example)["bundle"] == "run-dcnv2"
    (folder / "next").symlink_to("gbdt")
    os.replace(folder / "next", folder / "now")
    process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + START_S
    while call(port, "/score", example)["bundle"] != "run-gbdt":
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGTERM)
    assert process.wait(START_S) == 0
