"""Fits of a run side by side, each in a process of its own with its share of the cores.

A fit computes the same numbers in such a process as alone with the same number of threads. Processes end with the one
that started them, however that ends, and the next start of the run resumes their fits.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for_end

import psutil
import torch

from pipelines.common.cli import quiet_libraries
from pipelines.common.config import RankConfig
from pipelines.common.own_code import paths_of
from pipelines.parts.fits import Fit, fit_split
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.own_code import is_path, name_object
from recsys.runs.folder import RunFolder
from recsys.system.allocator import keep_freed_memory
from recsys.system.progress import hide_progress_lines
from recsys.system.threads import n_cores, use_cores
from recsys.system.world import World, join_world

_CORES_OF_A_FIT = 2
"""Training uses a second core for its batches, and more cores bring little."""
_GIB_OF_A_FIT = 4.0
_THREADS = "OMP_NUM_THREADS"
"""Read by OpenMP, which LightGBM and torch use, when a process loads it."""


@dataclass(frozen=True)
class FitJob:
    """What a process needs for one fit."""

    run: RunFolder
    settings: RankConfig
    dataset: PreparedDataset
    fit: Fit
    scores_monitored: bool


def n_parallel_fits(settings: RankConfig, n_fits: int, world: World, is_command: bool = True) -> int:
    """The number of fits to train at once; 1 trains in this process.

    It does not depend on how many fits are already done, so that a resumed run trains with the same number of threads.

    Args:
        settings: of the run.
        n_fits: all fits of the run.
        world: the processes.
        is_command: whether a command runs; a script's main module may not be importable again, which processes need.

    Raises:
        InputError: if parallel fits are asked for under torchrun.
    """
    asked = settings.trainer.parallel_fits
    if world.size > 1:
        if asked not in (None, 1):
            raise InputError(
                f"trainer.parallel_fits={asked} starts processes, and torchrun has started {world.size}: choose one"
            )
        return 1
    if asked is not None:
        return min(asked, n_fits)
    if world.device.type != "cpu" or not is_command:
        return 1
    fits_in_memory = int(psutil.virtual_memory().available / 2**30 / _GIB_OF_A_FIT)
    return max(1, min(n_fits, n_cores() // _CORES_OF_A_FIT, fits_in_memory))


def fit_in_processes(jobs: Sequence[FitJob], n_processes: int) -> None:
    """Trains the fits, `n_processes` at a time.

    Raises:
        InputError: the first of a fit, which ends the others, or if a process was killed.
    """
    n_threads = max(1, n_cores() // n_processes)
    context = multiprocessing.get_context("spawn")  # a forked process cannot use the threads of torch
    pool = ProcessPoolExecutor(n_processes, context, initializer=_start, initargs=(n_threads,))
    try:
        with _inherited(n_threads):
            futures = [pool.submit(_fit, job) for job in jobs]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        _raise_first_error(done)
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _raise_first_error(done: set[Future[None]]) -> None:
    errors = [error for future in done if (error := future.exception()) is not None]
    # a killed process breaks all other fits as well
    for error in sorted(errors, key=lambda error: isinstance(error, BrokenProcessPool)):
        if isinstance(error, BrokenProcessPool):
            raise InputError(
                "the process of a fit was killed, by the system if memory is short: lower trainer.parallel_fits, and "
                "run the same command again to resume"
            ) from error
        raise error


@contextmanager
def _inherited(n_threads: int) -> Iterator[None]:
    """Processes that the block starts have so many OpenMP threads, and ignore Ctrl-C: their parent ends them.

    A signal that arrives in the block is handled at its end.
    """
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = str(n_threads)
    can_block = hasattr(signal, "pthread_sigmask")  # not on Windows
    if can_block:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before
        if can_block:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _start(n_threads: int) -> None:
    """Prepares a process for its fits."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_exit_with, args=(parent.sentinel,), name="parent", daemon=True).start()
    use_cores(n_threads)
    torch.set_num_threads(n_threads)
    keep_freed_memory()
    quiet_libraries()
    hide_progress_lines()


def _exit_with(parent: int) -> None:
    """Ends this process when the parent has ended, even if it was killed: a later start would train the same fits."""
    wait_for_end([parent])
    os._exit(1)


def _fit(job: FitJob) -> None:
    own_code = (job.settings.model.name, *paths_of(job.settings.trainer, job.settings.evaluation))
    for path in filter(is_path, own_code):
        name_object(path)  # the user named it in the process that started this one
    split = job.dataset.split(job.fit.split, job.settings.features)
    try:
        fit_split(job.run, job.settings, split, join_world(), scores_monitored=job.scores_monitored, fit=job.fit)
    except InputError as error:
        raise InputError(str(error)) from None  # of its subclasses, some cannot be sent to the parent
