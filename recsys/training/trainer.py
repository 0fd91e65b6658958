"""The training loop: epochs over a split's fitting rows; keeps the best epoch's weights.

Shapes: B rows of a batch.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recsys.data.batch import Batch
from recsys.data.resident.loader import AnyLoader, choose_readers, open_loader
from recsys.data.rows import ListedRows, Permutation, Rows
from recsys.data.split import Split
from recsys.errors import InputError
from recsys.evaluation.shown import counted
from recsys.nn.embeddings import Embeddings
from recsys.nn.linear_part import linear_part_of
from recsys.nn.precision import supports_bf16
from recsys.nn.traits import sequences_of
from recsys.system.progress import ProgressLine, console, progress_line
from recsys.system.world import World
from recsys.training.checkpoint import ResumePoint, load_tensors, save_tensors, tensor_names
from recsys.training.config import EarlyStopping, FitConfig, TrainerConfig
from recsys.training.early_stopping import EPOCH_STREAM, epoch_text
from recsys.training.linear_part import fit_linear_part, refit_linear_part
from recsys.training.log import Log
from recsys.training.monitoring import ClickMonitor
from recsys.training.predict import predict
from recsys.training.state import (
    Epoch,
    FitReport,
    OnEpoch,
    Progress,
    ignore_epoch,
    random_state,
    set_random_state,
)
from recsys.training.task import Task, click_task
from recsys.training.update.finite import check_scores, check_weights
from recsys.training.update.step import explained_out_of_memory
from recsys.training.update.updater import Updater

_REPORT_EVERY = {"cpu": 10, "cuda": 50}
"""Steps between reports, for which the host waits for the device."""


class Trainer:
    """Fits a model to a split's fitting rows, in place.

    Args:
        model: maps a Batch to [B] logits; attribute `sequences` lists its sequence features. Its tables have no storage
            yet; the trainer shards them.
        split: encodes rows and defines the fitting rows.
        monitor: rows for early stopping; None holds out some of the fitting rows if early stopping is on.
        config: settings of training.
        weights: folder for the best epoch's weights; a killed fit resumes from folders beside it.
        log: receives training events for logging.
        world: the processes that train together.
        name: label of the progress line.
        task: the training task; None for the clicks of the split's fitting rows.

    Raises:
        InputError: if no rows are left to train on.
    """

    def __init__(
        self,
        model: nn.Module,
        split: Split,
        monitor: Rows | None,
        config: FitConfig,
        weights: Path,
        log: Log,
        world: World,
        name: str,
        task: Task | None = None,
    ) -> None:
        config = config.resolved(split.size(world.device.type))
        self._split, self._config, self._log, self._world, self._name = split, config, log, world, name
        self._stopping: EarlyStopping | None = None
        if task is None:
            assert isinstance(config, TrainerConfig)
            task, self._stopping = click_task(model, split, monitor, config), config.early_stopping
        self._task, self._rows, self.monitored_rows, self.link = task, task.rows, task.monitor, task.link
        stopping = task.validation or self._stopping
        self._patience = stopping.patience if stopping else None
        self._metrics = task.validation.weights if task.validation else self._stopping and self._stopping.weights
        self._clicks: ClickMonitor | None = None
        if self._stopping is not None and task.validation is None and task.monitor is not None:
            self._clicks = ClickMonitor(split, task.monitor, self._stopping, task.link, log)
        if len(self._rows) == 0:
            raise InputError(f"split {split.name!r} has no rows to train on: add rows")
        self._n_batches = -(-len(self._rows) // config.batch_size)
        self.model = model
        self._progress = Progress(precision=config.precision, micro_batches=config.micro_batches)
        if config.precision == "bf16" and not supports_bf16(world.device):
            console.print("this device does not support bf16: training in fp32", style="yellow")
            self._progress.precision, self._progress.fell_back_at_step = "fp32", 0
        self._updater = Updater(task.objective, config, self._progress.precision, len(self._rows), world)
        with explained_out_of_memory("the rows do not fit in the device's memory: set trainer.data=host"):
            self._batches, self._evaluated = choose_readers(task.batches, split, config.data, world.device)
        self._weights, self._resume = weights, ResumePoint(weights, world)
        self._saved_at = time.perf_counter()
        self._report_every = _REPORT_EVERY.get(world.device.type, 10)

    def fit(self, on_epoch: OnEpoch = ignore_epoch) -> FitReport:
        """Trains; the model and the weights folder then have the best epoch's weights.

        Raises:
            DivergenceError: if the loss, a weight or a score is not finite even in fp32.
        """
        torch.manual_seed(self._config.seed + self._world.rank)
        self._fit_linear_part()
        self._load()
        patience, progress = self._patience, self._progress
        n_epochs = min(self._config.epochs, self._config.stop_after or self._config.epochs)
        while progress.epoch < n_epochs:
            epoch = self._run_epoch()
            progress.epochs.append(epoch)
            with self._updater.average.in_place():
                check_weights(self._updater.sharded.state_dict(), self._world)
                if patience is None:
                    progress.best_epoch = progress.epoch
                else:
                    self._validate(epoch)
            self._print(epoch)
            on_epoch(epoch.monitored)
            progress.epoch, progress.batch = progress.epoch + 1, 0
            progress.loss_sum = progress.seconds = progress.waited_s = 0.0
            if patience is not None and progress.n_epochs_since_best >= patience:
                break
            if progress.epoch < n_epochs:
                self._save_if_due()
        if patience is None:
            with self._updater.average.in_place():
                first_batch = self._rows(np.arange(min(len(self._rows), self._config.batch_size)))
                self.predict(ListedRows(first_batch), "checking")  # finite weights may give infinite scores
                save_tensors(self._weights, self._updater.sharded.state_dict(), self._world)
        if progress.n_epochs_since_best or self._updater.average.means:
            load_tensors(self._weights, self._updater.sharded.state_dict())
        return FitReport(self.link, len(self._rows), progress)

    def clean_up(self) -> None:
        """Deletes the resume state; call it after the results of the fit are saved elsewhere."""
        self._resume.clear()

    def predict(self, rows: Rows, name: str) -> np.ndarray:
        """Computes [n] float32 logits of rows, on every process.

        Raises:
            DivergenceError: if one is not finite.
        """
        size, precision = self._config.eval_batch_size, self._progress.precision
        return check_scores(predict(self.model, self._evaluated, rows, size, precision, self._world, name))

    def loader(self, epoch: int, first: int = 0) -> AnyLoader:
        """Returns the loader of an epoch's batches, from batch number `first` on."""
        config, sequences = self._config, sequences_of(self.model)
        shuffle = Permutation(len(self._rows), config.seed, EPOCH_STREAM, epoch)
        return open_loader(self._batches, self._rows, config.batch_size, sequences, shuffle, first, self._world)

    def _run_epoch(self) -> Epoch:
        config, progress, start = self._config, self._progress, time.perf_counter()
        loader = self.loader(progress.epoch, progress.batch)
        at_start = (progress.seconds, progress.waited_s)
        loss_sum = torch.tensor(progress.loss_sum, dtype=torch.float64, device=self._world.device)
        self.model.train()
        n_since_report = 0
        title = f"{self._name} epoch {progress.epoch + 1}/{config.epochs}"
        with progress_line(title, len(self._rows), self._world.is_main) as line:
            line.advance(progress.batch * config.batch_size)
            batches = iter(loader)
            while progress.batch < self._n_batches:
                n_rows = loader.n_rows(progress.batch)
                loss, rates = self.update(batches, n_rows)
                loss_sum += torch.where(self._updater.step.finite.is_finite, loss.double() * n_rows, 0.0)
                progress.batch += 1
                n_since_report += n_rows
                if progress.step % self._report_every == 0 or progress.batch == self._n_batches:
                    line.advance(n_since_report)
                    n_since_report = 0
                    progress.loss_sum = self._report_step(loss, loss_sum, rates, line)
                    progress.seconds = at_start[0] + time.perf_counter() - start
                    progress.waited_s = at_start[1] + loader.waited_s
                    if progress.batch < self._n_batches:
                        self._save_if_due()
        self._updater.end_epoch()
        mean_loss = progress.loss_sum / len(self._rows)
        self._log.scalar("train/epoch_loss", mean_loss, progress.step)
        return Epoch(mean_loss, progress.seconds, progress.waited_s)

    def update(self, batches: Iterator[Batch], n_rows: int) -> tuple[Tensor, dict[str, float]]:
        """Runs one update with the next batch; returns its loss and the learning rates.

        Args:
            batches: this process's batches; some are read ahead.
            n_rows: rows of this batch over all processes.
        """
        progress = self._progress
        loss, rates = self._updater.run(batches, n_rows, progress.step)
        progress.micro_batches = self._updater.step.micro_batches
        progress.step += 1
        return loss, rates

    def _report_step(self, loss: Tensor, loss_sum: Tensor, rates: dict[str, float], line: ProgressLine) -> float:
        """Reports the last step; returns the sum of the losses of the epoch so far.

        Raises:
            DivergenceError: if a batch since the last report was not finite in fp32.
        """
        progress, step = self._progress, self._progress.step
        on_device = [loss, self._updater.optimizers.norm, loss_sum, self._updater.step.finite.count()]
        value, norm, total, n_bad = torch.stack([tensor.double() for tensor in on_device]).tolist()  # the host waits
        progress.n_skipped += int(n_bad)
        self._updater.step.settle(int(n_bad))
        if self._updater.step.precision != progress.precision:
            progress.precision, progress.fell_back_at_step = self._updater.step.precision, step
        self._log.scalar("train/loss", value, step)
        self._log.scalar("train/gradient_norm", norm, step)
        for optimizer, rate in rates.items():
            self._log.scalar(f"train/learning_rate/{optimizer}", rate, step)
        line.advance(0, f"step {step}/{self._n_batches * self._config.epochs} loss {value:.4f}")
        return float(total)

    def _fit_linear_part(self) -> None:
        """Fits the linear part of a model that has one, if it gets a share of the logit; the focal loss has none."""
        part, share = linear_part_of(self.model), getattr(self._config, "linear_share", 0.0)
        if part is None or self.link.focal_gamma or (self._clicks is None and not share):
            return
        with console.status(f"{self._name}  fitting the linear part"):
            fit_linear_part(part, self._split, self._rows, self.link, self._config.seed)
        if self._clicks is None:
            part.share.fill_(share)
        else:
            self._clicks.choose_share_of(part)

    def refit_linear_part(self) -> None:
        """Fits the linear part anew, with the monitored rows, after the training. Their scores say nothing then."""
        rows = (self._rows, self.monitored_rows)
        if refit_linear_part(linear_part_of(self.model), self._split, *rows, self.link, self._config.seed):
            save_tensors(self._weights, self._updater.sharded.state_dict(), self._world)

    def _validate(self, epoch: Epoch) -> None:
        """Evaluates the current model and saves its weights if they are the best so far."""
        progress, validation = self._progress, self._task.validation
        if validation is None:
            assert self._clicks is not None
            predict = partial(self.predict, self._clicks.rows, "monitoring")
            metrics = self._clicks.measure(predict, epoch, progress.step)
        else:
            metrics = validation.measure()
            epoch.monitored = metrics[validation.metric]
        for name, value in metrics.items():
            self._log.scalar(f"monitor/{name}", value, progress.step)
        for name, module in self.model.named_modules():
            if isinstance(module, Embeddings):
                self._log.table_norms(name, module.state_dict(), progress.step)
        assert epoch.monitored is not None
        if progress.best_value is None or epoch.monitored > progress.best_value:
            progress.best_epoch, progress.best_value = progress.epoch, epoch.monitored
            save_tensors(self._weights, self._updater.sharded.state_dict(), self._world)

    def _print(self, epoch: Epoch) -> None:
        epoch_number = f"epoch {len(self._progress.epochs)}/{self._config.epochs}"
        number = f"{self._name}  {epoch_number} of {counted(self._n_batches, 'step')}"
        console.print(f"{number}  {epoch_text(epoch, len(self._rows), self._metrics or {})}")

    def _state(self) -> dict[str, Any]:
        """Every tensor that training changes; loading a checkpoint into them resumes training."""
        state = self._updater.state() | {"rng": random_state(self._world)}
        return {name: tensors for name, tensors in state.items() if tensors}

    def _save_if_due(self) -> None:
        is_due = time.perf_counter() - self._saved_at >= self._config.checkpoint_every_s
        if self._world.broadcast(is_due):
            self._resume.save(self._state(), asdict(self._progress))
            self._saved_at = time.perf_counter()

    def _load(self) -> None:
        resume_point = self._resume.find()
        if resume_point is None:
            return
        folder, progress = resume_point
        state = self._state()
        rng = state.pop("rng")
        if all(f"rng.{key}" in tensor_names(folder) for key in rng):
            state["rng"] = rng
        load_tensors(folder, state)
        set_random_state(state.get("rng", {}), self._world)
        self._progress = Progress.from_json(progress)
        self._updater.resume(self._progress.step, self._progress.precision, self._progress.micro_batches)
        self._log.purge_after(self._progress.step)
        console.print(f"{self._name}  resumes at step {self._progress.step} of {self._n_batches * self._config.epochs}")
