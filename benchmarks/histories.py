"""What it costs to read histories of several lengths: by SDIM, an attention unit of DIN, a layer of OneTrans.

python -m benchmarks.histories

Shapes: B rows of a batch, T events of all rows, L events of a row, D width.
"""

import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from rich.table import Table
from torch import Tensor

from pipelines.common.cli import run_pipeline
from ranking.din import AttentionUnit, DINConfig
from ranking.onetrans.layers import Block
from ranking.onetrans.model import OneTransConfig
from recsys.nn.histories.sdim import SDIM
from recsys.nn.jagged import EventRows
from recsys.system.progress import console

_N_ROUNDS = 3
_LENGTHS = [50, 200, 531]


def histories(
    rows: Annotated[int, typer.Option(min=1, help="Rows of a batch.")] = 512,
    length: Annotated[list[int], typer.Option(min=1, help="Events of a row; may be repeated.")] = _LENGTHS,
) -> None:
    """Measure forward and backward passes over histories, in float32."""
    names = ("SDIM", "attention unit of DIN", "layer of OneTrans")
    table = Table(title="forward and backward pass, microseconds a row", title_justify="left")
    for column in ("events of a row", *names):
        table.add_column(column, justify="right")
    for n in length:
        seconds = [shortest(function) for function in (sdim(rows, n), unit(rows, n), layer(rows, n))]
        table.add_row(str(n), *(f"{1e6 * s / rows:,.0f}" for s in seconds))
    console.print(table)


def shortest(function: Callable[[], Tensor]) -> float:
    """The shortest of several rounds of a forward and backward pass, in seconds."""
    times = []
    for _ in range(_N_ROUNDS):
        start = time.perf_counter()
        function().sum().backward()
        times.append(time.perf_counter() - start)
    return min(times)


def sdim(rows: int, length: int) -> Callable[[], Tensor]:
    """The pooling of all events with the default hashes."""
    config = DINConfig()
    pooling = SDIM(config.embedding_dim, config.n_hashes, config.hash_width)
    x_TD, target_BD, length_B = _inputs(rows, length, config.embedding_dim)
    return lambda: pooling(x_TD, length_B, length, target_BD)


def unit(rows: int, length: int) -> Callable[[], Tensor]:
    """DIN's sum of events, weighted by an attention unit of the default widths."""
    config = DINConfig()
    attention = AttentionUnit(config.embedding_dim, config.attention_dims, config.activation)
    x_TD, target_BD, length_B = _inputs(rows, length, config.embedding_dim)
    event_rows = EventRows(length_B, len(x_TD), length)
    return lambda: event_rows.sum(attention(x_TD, target_BD, event_rows) * x_TD)


def layer(rows: int, length: int) -> Callable[[], Tensor]:
    """The first layer of OneTrans, which returns half of the events."""
    config = OneTransConfig()
    n_features, width = config.n_feature_tokens + 1, config.d_model
    block = Block(n_features, width, config.n_heads, round(config.ffn_factor * width), config.dropout, has_events=True)
    features, events = torch.randn(rows, n_features, width), torch.randn(rows, length, width, requires_grad=True)
    is_event = torch.ones(rows, length, dtype=torch.bool)
    return lambda: torch.cat(block(features, events, is_event, length // 2), dim=1)


def _inputs(rows: int, length: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """[T, D] events, [B, D] targets and [B] lengths."""
    events = torch.randn(rows * length, dim, requires_grad=True)
    return events, torch.randn(rows, dim), torch.full((rows,), length)


if __name__ == "__main__":
    run_pipeline(histories)
