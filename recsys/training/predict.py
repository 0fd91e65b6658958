"""Logits of rows, and their metrics."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, cast

import numpy as np
import torch
from torch import nn

from recsys.calibration import PriorShift
from recsys.dataset import Split
from recsys.loader import Loader
from recsys.metrics import Metrics, measure
from recsys.progress import progress_line
from recsys.rows import Rows
from recsys.training.config import TrainerConfig


def device_of_choice() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: Literal["bf16", "fp32"]) -> AbstractContextManager[None]:
    """bfloat16 matrix products inside the block, or float32 ones."""
    if precision == "fp32":
        return nullcontext()
    return cast(AbstractContextManager[None], torch.autocast(device.type, dtype=torch.bfloat16))


def sequences_of(model: nn.Module) -> tuple[str, ...]:
    """The sequence features that a model reads."""
    return cast(tuple[str, ...], model.sequences)


@torch.no_grad()
def predict(model: nn.Module, split: Split, rows: Rows, config: TrainerConfig, name: str = "scoring") -> np.ndarray:
    """[n] float32 logits of all rows, in their order."""
    device = device_of_choice()
    model.eval()
    loader = Loader(split, rows, config.eval_batch_size, sequences_of(model))
    logits = []
    with progress_line(name, len(rows)) as line:
        for batch in loader:
            with autocast(device, config.precision):
                logits.append(model(batch.to(device)).float().cpu().numpy())
            line.advance(len(batch))
    return np.concatenate(logits) if logits else np.zeros(0, np.float32)


def evaluate(model: nn.Module, split: Split, rows: Rows, shift: PriorShift, config: TrainerConfig) -> Metrics:
    """The metrics of rows."""
    logits = predict(model, split, rows, config)
    label = split.dataset.labels(rows(np.arange(len(rows))))
    return measure(label, shift.natural_logit(logits), shift.balanced_logit(logits))
