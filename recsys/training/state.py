"""Progress and report of a fit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from recsys.evaluation.logits import LogitLink
from recsys.nn.precision import Precision
from recsys.system.world import World

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
    linear_share: float | None = None
    """Share of the linear part in the logit; None if the model has none."""


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


def random_state(world: World) -> dict[str, Tensor]:
    """The states of this process's random number generators, by names that differ between processes."""
    states = {f"{world.rank}/cpu": torch.get_rng_state()}
    if world.device.type == "cuda":
        states[f"{world.rank}/cuda"] = torch.cuda.get_rng_state(world.device)
    return {f"of_{world.size}/{key}": value for key, value in states.items()}


def set_random_state(states: Mapping[str, Tensor], world: World) -> None:
    """Sets this process's random number generators to `random_state` or to a part of it."""
    for key, value in states.items():
        if key.endswith("cpu"):
            torch.set_rng_state(value)
        else:
            torch.cuda.set_rng_state(value, world.device)


@dataclass
class FitReport:
    """Result of a training run."""

    link: LogitLink
    n_rows: int
    """Rows per epoch."""
    progress: Progress
