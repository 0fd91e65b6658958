"""Pipelines run in the test's process, and what they leave."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


def read_oof(run: Path) -> list[dict[str, str]]:
    with (run / "oof.csv").open() as file:
        return list(csv.DictReader(file))
