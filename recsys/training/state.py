"""Where a fit stands."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from recsys.evaluation.logits import LogitLink
from recsys.nn.precision import Precision

OnEpoch = Callable[[float | None], None]
"""Told each epoch's monitored value, where there is one; it may raise to end the fit."""


def ignore_epoch(monitored: float | None) -> None:
    """The `OnEpoch` that does nothing."""


@dataclass
class Epoch:
    """One pass over the training rows."""

    loss: float
    seconds: float
    waited_s: float
    """Time that training waited for batches."""
    monitored: float | None = None


@dataclass
class Progress:
    """Where a fit stands; with the tensors of a checkpoint, all that a killed run resumes from."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    """Batches of this epoch that are done."""
    loss_sum: float = 0.0
    """Of this epoch's rows so far."""
    seconds: float = 0.0
    waited_s: float = 0.0
    """Of this epoch so far."""
    precision: Precision = "bf16"
    fell_back_at_step: int | None = None
    micro_batches: int = 1
    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float | None = None

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "Progress":
        """What `dataclasses.asdict` made of one."""
        return cls(**saved | {"epochs": [Epoch(**epoch) for epoch in saved["epochs"]]})

    @property
    def n_worse(self) -> int:
        """Epochs since the best one."""
        return len(self.epochs) - 1 - self.best_epoch


@dataclass
class FitReport:
    """What a training run did."""

    link: LogitLink
    n_rows: int
    """Rows of one epoch."""
    progress: Progress
