"""Answers requests over HTTP with a bundle of pipelines.export; needs no torch.

python -m pipelines.serve bundles/a --port 8000
"""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.common.cli import run_pipeline
from recsys.config import validate
from recsys.errors import InputError
from recsys.system.progress import console
from serving.server.config import ServerConfig


def serve(
    bundle: Annotated[Path, typer.Argument(help="Folder that pipelines.export wrote.")],
    users: Annotated[
        Path | None,
        typer.Option(help="Parquet file with the columns of users, such as their histories, by key."),
    ] = None,
    user_key: Annotated[
        str | None, typer.Option(help="Key of --users. Default: the column that the data names as user.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; the default is reached from this machine only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    threads: Annotated[int, typer.Option(help="Threads that compute a batch.")] = 1,
    batches: Annotated[
        int | None, typer.Option(help="Batches that are scored at once. Default: one on each core, at most four.")
    ] = None,
    max_waiting: Annotated[int, typer.Option(help="Requests that may wait; others get status 503.")] = 256,
    max_candidates: Annotated[int, typer.Option(help="Candidates of a request; more get status 413.")] = 10_000,
    max_body_mib: Annotated[int, typer.Option(help="Size of a request in MiB; larger ones get status 413.")] = 16,
) -> None:
    """Serve a bundle.

    POST /score scores the candidates of a user; GET /docs describes it with
    an example. POST /swap, or the signal HUP, replaces the bundle, and reads
    the users again, without losing a request. The signals INT and TERM end the server when its open
    requests are answered.
    """
    try:
        from serving.server.run import serve as run_server
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed, which servers need: pip install 'gatectr[serve]'") from error
    values = {
        "bundle": bundle,
        "users": users,
        "user_key": user_key,
        "host": host,
        "port": port,
        "threads": threads,
        "batches": batches,
        "max_waiting": max_waiting,
        "max_candidates": max_candidates,
        "max_body_bytes": max_body_mib << 20,
    }
    config = validate(ServerConfig, values, "the command line")
    address = f"http://{host}:{port}"
    console.print(f"serving {bundle} on {address} (POST /score, GET /docs, /health, /metrics, /model), for example:")
    console.print(f"curl -H 'Content-Type: application/json' -d @{bundle}/example.json {address}/score")
    run_server(config)


if __name__ == "__main__":
    run_pipeline(serve)
