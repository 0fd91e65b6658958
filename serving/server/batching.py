"""Scores concurrent requests together: those that wait while a batch is scored form the next one.

No request waits for others to come, so batches are as small as the load allows. One thread at a time encodes, which
needs the interpreter; while it scores, another thread encodes the next batch: ONNX Runtime, LightGBM and NumPy release
the interpreter meanwhile, and the connections are served.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recsys.errors import InputError
from serving.runtime.bundle import Bundle, Scores
from serving.runtime.encoder import Encoded

_logger = logging.getLogger(__name__)


class QueueFullError(Exception):
    """As many requests wait as the server accepts."""


class TooManyCandidatesError(Exception):
    """A request has more candidates than the server accepts."""


@dataclass(frozen=True)
class Answer:
    """The scores of one request, and the bundle that they come from."""

    scores: Scores
    bundle: Bundle


@dataclass
class _Waiting:
    """A request that waits for its scores."""

    candidates: Any
    user: Mapping[str, Any] | None
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Answer]"

    def answer(self, result: Answer | BaseException) -> None:
        """Passes the result to the connection, unless that has gone."""

        def settle() -> None:
            if self.future.done():
                return
            if isinstance(result, BaseException):
                self.future.set_exception(result)
            else:
                self.future.set_result(result)

        try:
            self.loop.call_soon_threadsafe(settle)
        except RuntimeError:  # the loop is closed: nobody waits any more
            _logger.debug("a request was scored after the server ended")


@dataclass
class Batcher:
    """The queue of requests, and the threads that score them.

    Args:
        bundle: the bundle; assigning another one swaps it between two batches.
        max_waiting: requests that may wait.
        max_batch_rows: candidates of a batch.
        max_candidates: candidates of a request.
        n_threads: threads that score batches.
    """

    bundle: Bundle
    max_waiting: int
    max_batch_rows: int
    max_candidates: int
    n_threads: int = 1
    on_batch: Any = field(default=lambda n_requests, n_rows: None)
    """Called with the requests and the candidates of each batch."""

    def __post_init__(self) -> None:
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._encoding = threading.Lock()
        self._is_ending = False
        self._threads = [
            threading.Thread(target=self._work, name=f"scoring-{number}", daemon=True)
            for number in range(self.n_threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def n_waiting(self) -> int:
        """The number of requests that wait."""
        return len(self._queue)

    async def score(self, candidates: Any, user: Mapping[str, Any] | None) -> Answer:
        """Scores a request with others.

        Raises:
            QueueFullError: when too many requests wait.
            TooManyCandidatesError: for too many candidates.
            InputError: for a request that cannot be scored.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(candidates, user, loop, loop.create_future())
        with self._changed:
            if len(self._queue) >= self.max_waiting or self._is_ending:
                raise QueueFullError
            self._queue.append(waiting)
            self._changed.notify()
        return await waiting.future

    def end(self) -> None:
        """Scores the requests that wait, and ends the threads."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    if self._is_ending:
                        return
                    self._changed.wait()
            self._score_batch()

    def _score_batch(self) -> None:
        """Encodes requests until the batch is full or none waits, and scores them."""
        batch, n_rows = list[tuple[_Waiting, Encoded]](), 0
        with self._encoding:
            bundle = self.bundle
            while self._queue and n_rows < self.max_batch_rows:
                waiting = self._queue.popleft()
                encoded = self._encode(bundle, waiting)
                if encoded is not None:
                    batch.append((waiting, encoded))
                    n_rows += encoded.n
            if batch:
                self.on_batch(len(batch), n_rows)
        if not batch:
            return
        try:
            logits = bundle.natural_logits([encoded for _, encoded in batch])
        except Exception as error:
            _logger.exception("a batch could not be scored")
            for waiting, _ in batch:
                waiting.answer(error)
            return
        start = 0
        for waiting, encoded in batch:
            own = logits[start : start + encoded.n]
            start += encoded.n
            if np.isfinite(own).all():
                waiting.answer(Answer(Scores(own, bundle.spec.log_pos_weight), bundle))
            else:
                number = int(np.flatnonzero(~np.isfinite(own))[0])
                waiting.answer(InputError(f"candidate {number} has no finite score: check it for extreme values"))

    def _encode(self, bundle: Bundle, waiting: _Waiting) -> Encoded | None:
        """Encodes a request; answers one that cannot be encoded."""
        if waiting.future.cancelled():
            return None
        try:
            request = bundle.read(waiting.candidates, waiting.user)
            if request.n > self.max_candidates:
                raise TooManyCandidatesError(f"{request.n:,} candidates, at most {self.max_candidates:,} are accepted")
            return bundle.encode(request)
        except (InputError, TooManyCandidatesError) as error:
            waiting.answer(error)
        except Exception as error:
            _logger.exception("a request could not be encoded")
            waiting.answer(error)
        return None
