"""The HTTP application: /score, /recommend, /health, /metrics, /model and /swap."""

import asyncio
import contextlib
import gc
import ipaddress
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from fastapi import FastAPI, Request, Response

from recsys.errors import InputError
from recsys.system.threads import n_cores
from serving.runtime.bundle import Bundle
from serving.runtime.recommend import Recommender, best
from serving.server.batching import Batcher, QueueFullError, TooManyCandidatesError
from serving.server.config import ServerConfig
from serving.server.formats import JSON, read_body, read_json_body, read_recommendation, write_answer
from serving.server.metrics import ServerMetrics
from serving.server.openapi import describe
from serving.server.users import UserStore

_RETRY_AFTER_S = "1"
_MOST_BATCHES = 4
"""Scored at once: one thread encodes for all of them."""


class BodyTooLargeError(Exception):
    """The body of a request has more bytes than the server accepts."""


class Service:
    """The state of a server: its bundle, the queue and the metrics.

    Args:
        config: the settings.
        bundle: the loaded bundle.
    """

    def __init__(self, config: ServerConfig, bundle: Bundle) -> None:
        self.config = config
        self.recommender, self.users = Recommender.load(bundle), load_users(config, bundle)
        n_batches = config.batches or min(n_cores(), _MOST_BATCHES)
        self.batcher = Batcher(bundle, config.max_waiting, config.max_batch_rows, config.max_candidates, n_batches)
        self.metrics = ServerMetrics(lambda: self.batcher.n_waiting)
        self.batcher.on_batch = self.metrics.on_batch
        self._swapping = asyncio.Lock()

    def filled(self, user: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """The columns of a user, with those of the file of users."""
        return user if self.users is None else self.users.fill(user)

    async def swap(self, folder: Path) -> Bundle:
        """Loads a bundle and the users, scores its example, and then lets it answer in place of the former one.

        Raises:
            InputError: when the folder is not a bundle beside the server's first one, or cannot score its example.
        """
        folder, allowed = folder.resolve(), self.config.bundle.absolute().parent.resolve()
        if allowed not in folder.parents:
            raise InputError(f"{folder} is not in {allowed}, where the server's bundle is: put the new one there")
        async with self._swapping:
            bundle = await asyncio.to_thread(load_warm, folder, self.config.threads)
            self.users = await asyncio.to_thread(load_users, self.config, bundle)
            self.recommender = await asyncio.to_thread(Recommender.load, bundle)
            self.batcher.bundle = bundle
        self.metrics.swaps.inc()
        return bundle


def load_users(config: ServerConfig, bundle: Bundle) -> UserStore | None:
    """Reads the file of users, if the server has one.

    Raises:
        InputError: if it cannot be read, or nothing names its key.
    """
    if config.users is None:
        return None
    key = config.user_key or bundle.spec.schema_.user
    if key is None:
        raise InputError(f"{config.users}: the data of the bundle names no user: name the key with --user-key")
    return UserStore(config.users, key)


def load_warm(folder: Path, n_threads: int) -> Bundle:
    """Loads a bundle and scores its example, so that the first request is not slower than others."""
    bundle = Bundle.load(folder, n_threads)
    example = bundle.example()
    bundle.score(example["candidates"], example["user"])
    # what lives as long as the server is not searched for garbage: that took a quarter of the event loop's work
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    return bundle


def create_app(service: Service) -> FastAPI:
    """Builds the application of a service."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.batcher.end)

    app = FastAPI(title="GateCTR", lifespan=lifespan)
    metrics = service.metrics

    @app.post("/score", response_class=Response)
    async def score(request: Request) -> Response:
        """Scores the candidates of one user."""
        start = time.perf_counter()
        response = await answered(partial(_score, service, request))
        metrics.requests.labels("/score", response.status_code).inc()
        if response.status_code == 200:
            metrics.seconds.observe(time.perf_counter() - start)
        return response

    @app.post("/recommend", response_class=Response)
    async def recommend(request: Request) -> Response:
        """Retrieves items for a user, ranks them, and returns the best."""
        response = await answered(partial(_recommend, service, request))
        metrics.requests.labels("/recommend", response.status_code).inc()
        return response

    @app.get("/health", response_class=Response)
    async def health() -> Response:
        """Answers 200 as long as the server accepts requests."""
        bundle = service.batcher.bundle
        return _json(200, {"status": "ok", "bundle": bundle.spec.name, "waiting": service.batcher.n_waiting})

    @app.get("/metrics", response_class=Response)
    async def prometheus() -> Response:
        """Counts of requests and batches, in the text format of Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/model", response_class=Response)
    async def model() -> Response:
        """The model card of the bundle."""
        bundle = service.batcher.bundle
        return _json(200, {"folder": str(bundle.folder), "columns": bundle.columns, "card": bundle.card()})

    @app.post("/swap", response_class=Response)
    async def swap(request: Request) -> Response:
        """Replaces the bundle by another one on the server's disk; only for clients on the same machine."""
        if not _is_local(request):
            return _json(403, {"error": "only a client on the server's machine may swap its bundle"})
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            # a page in a browser on this machine cannot send this type without the server's consent
            return _json(422, {"error": f"the content type must be {JSON}: set the header Content-Type"})
        try:
            folder = _folder_of(await _body(request, service.config.max_body_bytes))
            bundle = await service.swap(folder)
        except (InputError, BodyTooLargeError) as error:
            return _json(422, {"error": str(error)})
        return _json(200, {"bundle": bundle.spec.name, "folder": str(bundle.folder)})

    describe(app, lambda: service.batcher.bundle)
    return app


async def answered(answer: Callable[[], Awaitable[Response]]) -> Response:
    """The answer, or the status and the cure of what stands in its way."""
    try:
        return await answer()
    except InputError as error:
        return _json(422, {"error": str(error)})
    except (BodyTooLargeError, TooManyCandidatesError) as error:
        return _json(413, {"error": f"the request is too large ({error}): divide it"})
    except QueueFullError:
        response = _json(503, {"error": "too many requests wait: send this one again later"})
        response.headers["Retry-After"] = _RETRY_AFTER_S
        return response


async def _score(service: Service, request: Request) -> Response:
    limit = service.config.max_body_bytes
    body = await _body(request, limit)
    candidates, user = read_body(body, request.headers.get("content-type", ""), 4 * limit)
    answer = await service.batcher.score(candidates, service.filled(user))
    content, media = write_answer(answer, request.headers.get("accept", ""))
    return Response(content, media_type=media)


async def _recommend(service: Service, request: Request) -> Response:
    body = await _body(request, service.config.max_body_bytes)
    wanted = read_recommendation(body, request.headers.get("content-type", ""), service.config.max_candidates)
    recommender = service.recommender
    if recommender is None:
        raise InputError("the bundle retrieves no items: export it with --retrieval RUN")
    user = service.filled(wanted.user) or {}
    found = await asyncio.to_thread(recommender.candidates, user, wanted.candidates, wanted.exclude)
    if len(found.items) == 0:
        return _json(200, {"bundle": recommender.bundle.spec.name, "items": [], "p": []})
    answer = await service.batcher.score(pa.table(found.columns), user)
    chosen = best(found, answer.scores, wanted.k)
    return _json(
        200,
        {
            "bundle": recommender.bundle.spec.name,
            "items": chosen.items.to_pylist(),
            "p": chosen.scores.p.tolist(),
        },
    )


async def _body(request: Request, limit: int) -> bytes:
    """Reads the body of a request, no more than the limit of it."""
    parts, n_bytes = [], 0
    async for part in request.stream():
        n_bytes += len(part)
        if n_bytes > limit:
            raise BodyTooLargeError(f"more than {limit:,} bytes")
        parts.append(part)
    return b"".join(parts)


def _folder_of(body: bytes) -> Path:
    values = read_json_body(body)
    folder = values.get("bundle") if isinstance(values, dict) else None
    if not isinstance(folder, str) or "\0" in folder:
        raise InputError('the body has no folder of a bundle: write {"bundle": "FOLDER"}')
    return Path(folder)


def _is_local(request: Request) -> bool:
    """Whether a request comes from the server's own machine."""
    host = request.client.host if request.client is not None else ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _json(status: int, values: Any) -> Response:
    return Response(orjson.dumps(values), status_code=status, media_type=JSON)
