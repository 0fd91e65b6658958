"""Settings of the server."""

from pathlib import Path

from pydantic import Field

from recsys.config import StrictModel


class ServerConfig(StrictModel):
    """What the server accepts at once."""

    bundle: Path
    users: Path | None = None
    """A parquet file with the columns of users, see `UserStore`."""
    user_key: str | None = None
    """Its key; None for the column that the data names as user."""
    host: str = "127.0.0.1"
    """The address to listen on; only this machine reaches the default one."""
    port: int = Field(default=8000, ge=0, le=65535)
    threads: int = Field(default=1, ge=1)
    """Threads of a graph. One leaves the other cores to other batches and the connections."""
    batches: int | None = Field(default=None, ge=1)
    """Batches that are scored at once; None for one on each core, at most four."""
    max_waiting: int = Field(default=256, ge=1)
    """Requests that wait for a batch; those beyond it get status 503."""
    max_batch_rows: int = Field(default=2048, ge=1)
    """Candidates that are scored together; a larger request is scored alone."""
    max_candidates: int = Field(default=10_000, ge=1)
    """Candidates of a request; one with more gets status 413."""
    max_body_bytes: int = Field(default=16 << 20, ge=1024)
    """Bytes of a request; one with more gets status 413."""
    end_timeout_s: int = Field(default=30, ge=1)
    """Time that open requests have to finish when the server ends."""
