"""A server in the test's process."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from serving.runtime.bundle import Bundle
from serving.server.app import Service, create_app
from serving.server.config import ServerConfig

Client = Callable[..., Any]


@pytest.fixture
def serve(bundle_of: Callable[[str], Bundle]) -> Client:
    """`async with serve(max_waiting=3) as (client, service)` opens a server of the dcnv2 bundle."""

    @asynccontextmanager
    async def opened(
        model: str = "dcnv2", host: str = "127.0.0.1", **settings: Any
    ) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
        bundle = bundle_of(model)
        service = Service(ServerConfig(bundle=bundle.folder, **settings), bundle)
        transport = httpx.ASGITransport(create_app(service), raise_app_exceptions=False, client=(host, 1234))
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                yield client, service
        finally:
            service.batcher.end()

    return opened
