"""Progress and report of a fit."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from recsys.evaluation.logits import LogitLink
from recsys.nn.precision import Precision

OnEpoch = Callable[[float | None], None]
"""Called after each epoch with the monitored value, or None without one; it may raise to end the fit."""


def ignore_epoch(monitored: float | None) -> None:
    """An `OnEpoch` that does nothing."""


@dataclass
class Epoch:
    """One pass over the training rows."""

    loss: float
    seconds: float
    waited_s: float
    """Seconds that training waited for batches."""
    monitored: float | None = None


@dataclass
class Progress:
    """Progress of a fit; a killed run resumes from it and the tensors of a checkpoint."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    """Finished batches of the current epoch."""
    loss_sum: float = 0.0
    """Sum of the losses of the current epoch so far."""
    seconds: float = 0.0
    waited_s: float = 0.0
    """Waiting time of the current epoch so far."""
    precision: Precision = "bf16"
    fell_back_at_step: int | None = None
    n_skipped: int = 0
    """Batches whose loss or gradients were not finite; they changed no weight."""
    micro_batches: int = 1
    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float | None = None

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "Progress":
        """Restores a `Progress` from the output of `dataclasses.asdict`."""
        return cls(**saved | {"epochs": [Epoch(**epoch) for epoch in saved["epochs"]]})

    @property
    def n_epochs_since_best(self) -> int:
        """Number of epochs since the best epoch."""
        return len(self.epochs) - 1 - self.best_epoch


@dataclass
class FitReport:
    """Result of a training run."""

    link: LogitLink
    n_rows: int
    """Rows per epoch."""
    progress: Progress
