"""Types for pipelines that run in the test's process, and a reader of their output."""

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
