"""The training loop: one pass after another over a split's fitting rows, and the best epoch's weights at the end."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from recsys.batch import Batch
from recsys.calibration import PriorShift
from recsys.dataset import Split
from recsys.errors import InputError
from recsys.loader import Loader
from recsys.metrics import Metrics
from recsys.permutation import Permutation
from recsys.progress import ProgressLine, console, progress_line
from recsys.rows import PermutedSlice, Rows
from recsys.training.config import EarlyStopping, TrainerConfig
from recsys.training.losses import RankingTask, WeightedLogLoss
from recsys.training.optimizers import learning_rate_at, make_optimizer
from recsys.training.predict import autocast, device_of_choice, evaluate, sequences_of

ScalarLog = Callable[[str, float, int], None]
"""Takes (tag, value, step)."""

_HOLDOUT_STREAM, _EPOCH_STREAM = 0, 1  # streams of one seed
_LOG_EVERY = 10


@dataclass
class Epoch:
    """One pass over the training rows."""

    loss: float
    seconds: float
    waited_s: float
    """Time that training waited for batches."""
    monitored: float | None = None


@dataclass
class FitReport:
    """What a training run did."""

    shift: PriorShift
    precision: str
    n_rows: int
    """Rows of one epoch."""
    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0


class Trainer:
    """Fits a model to a split's fitting rows, in place.

    Args:
        model: maps a Batch to [B] logits; its attribute `sequences` names the sequences it reads.
        split: encodes rows, and says which may be fitted on.
        monitor: rows to judge epochs by; None sets some of the fitting rows aside, if early stopping asks for any.
        config: how to train.
        log: receives the scalars.
        name: shown on the progress line.

    Raises:
        InputError: when no rows are left to train on.
    """

    def __init__(
        self, model: nn.Module, split: Split, monitor: Rows | None, config: TrainerConfig, log: ScalarLog, name: str
    ) -> None:
        self._split, self._config, self._log, self._name = split, config, log, name
        self._device = device_of_choice()
        self._rows, self._monitor = _set_aside(split.fit_rows, monitor, config)
        if len(self._rows) == 0:
            raise InputError(f"split {split.name!r} has no rows left to train on: give it more, or no early stopping")
        weight = split.prior.pos_weight if config.pos_weight == "auto" else config.pos_weight
        shift = PriorShift(trained_weight=weight, balancing_weight=split.prior.pos_weight)
        self._report = FitReport(shift, config.precision, len(self._rows))
        self._task = RankingTask(model, WeightedLogLoss(weight)).to(self._device)
        self._optimizer = make_optimizer(model, config)
        self._n_steps = -(-len(self._rows) // config.batch_size) * config.epochs
        self._step = 0

    def fit(self) -> FitReport:
        """Trains, and leaves the best epoch's weights in the model.

        Raises:
            InputError: when the loss is not finite.
        """
        stopping, model = self._config.early_stopping, self._task.model
        best_value, best_weights, n_worse = -math.inf, None, 0
        for number in range(self._config.epochs):
            epoch = self._run_epoch(number)
            self._report.epochs.append(epoch)
            if stopping is None:
                self._report.best_epoch = number
                self._print(number, epoch)
                continue
            epoch.monitored = self._judge(stopping)
            self._print(number, epoch)
            if epoch.monitored > best_value:
                best_value, n_worse, self._report.best_epoch = epoch.monitored, 0, number
                best_weights = {key: value.detach().clone() for key, value in model.state_dict().items()}
            else:
                n_worse += 1
                if n_worse >= stopping.patience:
                    break
        if best_weights is not None:
            model.load_state_dict(best_weights)
        return self._report

    def _run_epoch(self, number: int) -> Epoch:
        config, start = self._config, time.perf_counter()
        shuffle = Permutation(len(self._rows), config.seed, _EPOCH_STREAM, number)
        loader = Loader(self._split, self._rows, config.batch_size, sequences_of(self._task.model), shuffle)
        total = torch.zeros((), device=self._device)
        self._task.train()
        with progress_line(f"{self._name} epoch {number + 1}/{config.epochs}", len(self._rows)) as line:
            for batch in loader:
                loss, norm = self._train_step(batch.to(self._device))
                total += loss * len(batch)
                if self._step % _LOG_EVERY == 0 or self._step == self._n_steps:
                    self._report_step(loss, norm, line)
                line.advance(len(batch))
        mean = float(total) / len(self._rows)
        _check_finite(mean, self._step, config)
        self._log("train/epoch_loss", mean, self._step)
        return Epoch(loss=mean, seconds=time.perf_counter() - start, waited_s=loader.waited_s)

    def _train_step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One update; the loss and the gradients' norm before it was clipped."""
        rate = learning_rate_at(self._step, self._n_steps, self._config)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        with autocast(self._device, self._config.precision):
            loss, _ = self._task(batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._task.parameters(), self._config.gradient_clip or math.inf)
        self._optimizer.step()
        self._step += 1
        return loss.detach(), norm

    def _report_step(self, loss: Tensor, norm: Tensor, line: ProgressLine) -> None:
        value = float(loss)
        _check_finite(value, self._step, self._config)
        self._log("train/loss", value, self._step)
        self._log("train/gradient_norm", float(norm), self._step)
        self._log("train/learning_rate", self._optimizer.param_groups[0]["lr"], self._step)
        line.advance(0, f"step {self._step}/{self._n_steps} loss {value:.4f}")

    def _judge(self, stopping: EarlyStopping) -> float:
        assert self._monitor is not None
        metrics = evaluate(self._task.model, self._split, self._monitor, self._report.shift, self._config)
        for name, value in metrics.model_dump(exclude_none=True, exclude={"n_rows", "n_positive"}).items():
            self._log(f"monitor/{name}", value, self._step)
        return composite(metrics, stopping.weights)

    def _print(self, number: int, epoch: Epoch) -> None:
        speed = len(self._rows) / epoch.seconds
        judged = "" if epoch.monitored is None else f"  monitored {epoch.monitored:.5f}"
        console.print(
            f"{self._name}  epoch {number + 1}/{self._config.epochs}  loss {epoch.loss:.4f}{judged}  "
            f"{speed:,.0f} rows/s  waited {100 * epoch.waited_s / epoch.seconds:.1f} %"
        )


def _set_aside(rows: Rows, monitor: Rows | None, config: TrainerConfig) -> tuple[Rows, Rows | None]:
    """The rows to train on and those to judge epochs by, which are a slice of the fitting rows unless given."""
    if config.early_stopping is None or monitor is not None:
        return rows, monitor
    n_held = max(1, round(config.early_stopping.holdout_fraction * len(rows)))
    order = Permutation(len(rows), config.seed, _HOLDOUT_STREAM)
    return PermutedSlice(rows, order, n_held, len(rows)), PermutedSlice(rows, order, 0, n_held)


def composite(metrics: Metrics, weights: dict[str, float]) -> float:
    """The weighted sum of metrics that early stopping maximises.

    Raises:
        InputError: when a metric is undefined on the monitored rows.
    """
    values = metrics.model_dump()
    if undefined := [name for name in weights if values[name] is None]:
        raise InputError(
            f"{undefined[0]} is undefined on the {metrics.n_rows} monitored rows ({metrics.n_positive} positive): "
            "raise trainer.early_stopping.holdout_fraction, or set trainer.early_stopping=null"
        )
    return sum(weight * values[name] for name, weight in weights.items())


def _check_finite(loss: float, step: int, config: TrainerConfig) -> None:
    if not math.isfinite(loss):
        raise InputError(
            f"the loss is {loss} at step {step}: lower trainer.learning_rate (now {config.learning_rate}), "
            "or set trainer.precision=fp32"
        )
