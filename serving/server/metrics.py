"""What the server counts, in the text format of Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_ROWS = (1, 8, 32, 128, 512, 2048, 8192)


class ServerMetrics:
    """Counts requests, batches and swaps.

    Args:
        n_waiting: returns the number of waiting requests.
    """

    def __init__(self, n_waiting: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "gatectr_requests", "Requests by path and status", ("path", "status"), registry=self._registry
        )
        self.seconds = Histogram(
            "gatectr_request_seconds", "Time of a scored request", buckets=_SECONDS, registry=self._registry
        )
        self.batch_rows = Histogram(
            "gatectr_batch_candidates", "Candidates scored together", buckets=_ROWS, registry=self._registry
        )
        self.batch_requests = Histogram(
            "gatectr_batch_requests", "Requests scored together", buckets=_ROWS, registry=self._registry
        )
        self.swaps = Counter("gatectr_swaps", "Bundles swapped in", registry=self._registry)
        waiting = Gauge("gatectr_waiting_requests", "Requests that wait for a batch", registry=self._registry)
        waiting.set_function(n_waiting)

    def on_batch(self, n_requests: int, n_rows: int) -> None:
        """Counts a batch."""
        self.batch_requests.observe(n_requests)
        self.batch_rows.observe(n_rows)

    def text(self) -> bytes:
        """The metrics as text."""
        return generate_latest(self._registry)
