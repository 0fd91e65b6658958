"""Loads a server from another process: requests at a fixed rate, over connections that stay open.

The time of a request counts from the moment at which it was due, so a server that falls behind is not spared.

python -m benchmarks.serving.load PORT BODIES RATE SECONDS CONNECTIONS
"""

import asyncio
import json
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
HEAD = "POST /score HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"


class Connection(asyncio.Protocol):
    """One connection, which sends a request after the answer to the former one.

    A protocol, because the streams of asyncio take more processor time, which a server on the same cores lacks.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._status: asyncio.Future[int] | None = None

    async def send(self, request: bytes) -> int:
        """Sends a request; returns the status of the answer."""
        loop = asyncio.get_running_loop()
        if self._transport is None:
            await loop.create_connection(lambda: self, "127.0.0.1", self._port)
        assert self._transport is not None
        self._received, self._status = b"", loop.create_future()
        self._transport.write(request)
        return await self._status

    async def abandon(self, request: bytes) -> None:
        """Sends a request and closes the connection without reading the answer, as a client that is killed does."""
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(request)
        await writer.drain()
        writer.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Settles the request once its answer is complete."""
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or self._status is None or self._status.done():
            return
        if len(body) >= int(_LENGTH.findall(head)[0]):
            self._status.set_result(int(head.split(b" ", 2)[1]))

    def connection_lost(self, error: Exception | None) -> None:
        """Fails the request whose answer does not come any more; the next one connects again."""
        self._transport = None
        if self._status is not None and not self._status.done():
            self._status.set_exception(error or ConnectionResetError())


async def load(port: int, bodies: list[bytes], rate: float, seconds: float, n_connections: int) -> dict[str, Any]:
    """Sends requests at a rate; returns the statuses and latency quantiles in milliseconds."""
    requests = [HEAD.format(len(body)).encode() + body for body in bodies]
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(n_connections):
        free.put_nowait(Connection(port))
    times: list[float] = []
    statuses: Counter[str] = Counter()

    async def one(number: int, due: float) -> None:
        connection = await free.get()
        try:
            statuses[str(await connection.send(requests[number % len(requests)]))] += 1
        except OSError as error:
            statuses[type(error).__name__] += 1
            connection = Connection(port)
        finally:
            free.put_nowait(connection)
        times.append(1000 * (time.perf_counter() - due))

    start, tasks = time.perf_counter(), []
    n = round(rate * seconds)
    for number in range(n):
        due = start + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(number, due)))
    await asyncio.gather(*tasks)
    elapsed = time.perf_counter() - start
    p50, p99 = np.quantile(times, [0.5, 0.99])
    return {"n": n, "per_s": n / elapsed, "statuses": dict(statuses), "p50": p50, "p99": p99, "max": max(times)}


if __name__ == "__main__":
    port, path, rate, seconds, n_connections = sys.argv[1:]
    bodies = [line.encode() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    print(json.dumps(asyncio.run(load(int(port), bodies, float(rate), float(seconds), int(n_connections)))))
