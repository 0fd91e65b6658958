"""Runs the server in this process until SIGINT or SIGTERM; SIGHUP loads the bundle's folder again."""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Iterator

import uvicorn

from recsys.errors import InputError
from serving.server.app import Service, create_app, load_warm
from serving.server.config import ServerConfig

_logger = logging.getLogger(__name__)
_BACKLOG = 2048
_SWITCH_S = 0.001
"""Time after which a thread that encodes lets the connections run; Python's 5 ms would add up under load."""


class _Server(uvicorn.Server):
    """A server that ends with its own exit code after a signal; uvicorn raises the signal again."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles the signals while the server runs."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        loop.add_signal_handler(signal.SIGHUP, self._start_swap)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _start_swap(self) -> None:
        task = asyncio.get_running_loop().create_task(self._swap())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _swap(self) -> None:
        try:
            await self._service.swap(self._service.config.bundle)
        except InputError as error:
            _logger.error("the bundle was not swapped: %s", error)


def serve(config: ServerConfig) -> None:
    """Loads the bundle and answers requests.

    Raises:
        InputError: when the folder is not a bundle.
    """
    sys.setswitchinterval(_SWITCH_S)
    service = Service(config, load_warm(config.bundle, config.threads))
    settings = uvicorn.Config(
        create_app(service),
        host=config.host,
        port=config.port,
        log_level="warning",
        access_log=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=config.end_timeout_s,
    )
    _Server(settings, service).run()
