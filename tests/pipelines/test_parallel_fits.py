"""`trainer.parallel_fits`: fits in processes of their own, with the results of fits one after another."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import torch

import pipelines.rank
import recsys.system.threads
from pipelines.common.config import RankConfig, load_rank_config
from pipelines.common.interrupt import MESSAGE
from pipelines.parts.parallel import FitJob, fit_in_processes, n_parallel_fits
from recsys.system.threads import use_cores
from recsys.system.world import World
from tests.helpers.commands import Run

RANK = ("rank", "--config", "config.yaml", "--data", "raw")
DEEP = ("--model", "dcnv2", "trainer.epochs=2")
TREES = ("--model", "gbdt", "model.n_trees=10", "model.min_data_in_leaf=5", "trainer.trees_per_epoch=5")
ENDLESS = ("trainer.epochs=100000", "trainer.early_stopping=null", "trainer.checkpoint_every_s=1000000")
TIMEOUT_S = 120
CPU = World(0, 1, torch.device("cpu"))


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(recsys.system.threads, "_share", 2)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@contextmanager
def started(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Starts a pipeline in its own process group, as a shell does, and kills what is left of it at the end."""
    command = [sys.executable, "-u", "-m", f"pipelines.{arguments[0]}", *arguments[1:]]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def fits_of(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The processes of the fits, once one of them has trained an epoch."""
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch" in line and line.startswith("fold_"):
            children = psutil.Process(process.pid).children()
            return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    raise AssertionError(process.stderr.read() if process.stderr else "")


@pytest.mark.parametrize("model", [DEEP, pytest.param(TREES, marks=pytest.mark.slow)])
def test_results_are_those_of_fits_one_after_another(
    model: tuple[str, ...], project: Path, run: Run, two_cores: None
) -> None:
    for n, out in ((1, "one"), (2, "two")):
        outcome = run(*RANK, *model, f"trainer.parallel_fits={n}", "--out", out)
        assert outcome.code == 0, outcome.err
    assert Path("two/oof.csv").read_bytes() == Path("one/oof.csv").read_bytes()
    assert sorted(path.name for path in Path("two/ckpt").iterdir()) == ["fold_0", "fold_1", "fold_2"]


def test_an_error_of_a_fit_is_one_line(project: Path, run: Run, two_cores: None) -> None:
    diverging = ("trainer.learning_rate=1e30", "trainer.gradient_clip=null", "trainer.precision=fp32")
    outcome = run(*RANK, *DEEP, *diverging, "trainer.parallel_fits=2", "--out", "a")
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("lower trainer.learning_rate") == 1


@pytest.mark.slow
def test_a_killed_fit_is_an_error_that_says_so(project: Path, run: Run) -> None:
    with started(*RANK, *DEEP, *ENDLESS, "trainer.parallel_fits=2", "--out", "a") as process:
        fits = fits_of(process)
        assert len(fits) == 2
        fits[0].kill()
        _, error = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 2
        assert "lower trainer.parallel_fits" in error.splitlines()[-1]
        assert not psutil.wait_procs(fits, TIMEOUT_S)[1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_fits_end_with_the_command(number: signal.Signals, project: Path, run: Run) -> None:
    command = (*RANK, *DEEP, "trainer.parallel_fits=2", "--out", "a")
    with started(*command, *ENDLESS) as process:
        fits = fits_of(process)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # a terminal sends it to all processes
            _, error = process.communicate(timeout=TIMEOUT_S)
            assert (process.returncode, error) == (130, f"{MESSAGE}\n")
        else:
            process.kill()
        assert not psutil.wait_procs(fits, TIMEOUT_S)[1]
    assert Path("a.partial").is_dir()


@pytest.mark.slow
def test_a_run_resumes_at_the_fits_that_are_missing(
    project: Path, run: Run, two_cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (*RANK, *DEEP, "trainer.parallel_fits=2", "--folds", "0,1", "--out")
    assert run(*command, "whole").code == 0

    def killed(jobs: Sequence[FitJob], n_processes: int) -> None:
        fit_in_processes(jobs[:1], n_processes)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipelines.rank, "fit_in_processes", killed)
        assert run(*command, "again").code == 130
    outcome = run(*command, "again")
    assert outcome.code == 0, outcome.err
    assert "fold_0  is already trained" in outcome.out
    assert Path("again/oof.csv").read_bytes() == Path("whole/oof.csv").read_bytes()


def settings_of(project: Path, *overrides: str) -> RankConfig:
    return load_rank_config(project / "config.yaml", "dcnv2", overrides)


@pytest.mark.parametrize(("cores", "n_fits", "expected"), [(2, 5, 1), (4, 5, 2), (64, 5, 5), (64, 1, 1)])
def test_by_default_two_cores_train_a_fit(
    cores: int, n_fits: int, expected: int, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recsys.system.threads, "_share", None)
    use_cores(cores)
    memory = psutil.virtual_memory()._replace(available=2**37)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert n_parallel_fits(settings_of(project), n_fits, CPU) == expected
    assert n_parallel_fits(settings_of(project, "trainer.parallel_fits=3"), n_fits, CPU) == min(3, n_fits)
    assert n_parallel_fits(settings_of(project), n_fits, World(0, 1, torch.device("cuda"))) == 1
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=2**30))
    assert n_parallel_fits(settings_of(project), n_fits, CPU) == 1


def test_torchrun_has_started_the_processes(project: Path) -> None:
    world = World(0, 2, torch.device("cpu"))
    assert n_parallel_fits(settings_of(project), 5, world) == 1
    with pytest.raises(ValueError, match="trainer.parallel_fits=2 starts processes, and torchrun has started 2"):
        n_parallel_fits(settings_of(project, "trainer.parallel_fits=2"), 5, world)
