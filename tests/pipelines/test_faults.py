"""Machine faults and damaged files: a one-line error, no lost data, and a successful second attempt.

`python -m benchmarks.faults` injects real faults; these tests simulate some of them.
"""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from torch.distributed.checkpoint.api import CheckpointException, _wrap_exception

import pipelines.rank
from pipelines.common.interrupt import MESSAGE
from recsys.system.seal import seal
from tests.helpers.commands import Outcome, Run
from tests.helpers.small import small_table

RANK = ("rank", "--config", "config.yaml", "--data", "raw", "--folds", "all")
TREES = (*RANK, "--model", "gbdt", "model.n_trees=20")
PREPARE = ("prepare", "--config", "config.yaml", "--train", "raw/train.parquet", "--out", "prepared/mine")


def refused(outcome: Outcome, message: str) -> None:
    assert outcome.code == 2, outcome
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


@contextmanager
def small_disk(n_bytes: int) -> Iterator[None]:
    """Limits the size of files: writes fail as on a full disk, but with another errno."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("n_bytes", [10, 3000, 30_000])
def test_prepare_on_a_full_disk(project: Path, run: Run, n_bytes: int) -> None:
    with small_disk(n_bytes):
        refused(run(*PREPARE), "free some space, or choose another --out, then run the same command again")
    assert not (project / "prepared/mine").exists()
    assert run(*PREPARE).code == 0


@pytest.mark.parametrize(("model", "n_bytes"), [("gbdt", 2000), ("dcnv2", 10), ("dcnv2", 2000)])
def test_rank_on_a_full_disk(project: Path, run: Run, model: str, n_bytes: int) -> None:
    assert run(*PREPARE).code == 0
    command = ("rank", "--config", "config.yaml", "--data", "prepared/mine", "--model", model, "--folds", "all")
    small = ("model.n_trees=20",) if model == "gbdt" else ("trainer.epochs=1",)
    with small_disk(n_bytes):
        refused(run(*command, "--out", "a", *small), "free some space")
    assert not Path("a").exists()
    assert run(*command, "--out", "a", *small).code == 0
    assert run(*command, "--out", "b", *small).code == 0
    assert Path("a/oof.csv").read_bytes() == Path("b/oof.csv").read_bytes()


def test_read_only_output(project: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").write_text("x")
    refused(run(*TREES, "--out", "file/run"), "file/run cannot be created")

    def read_only(*args: object) -> None:
        raise OSError(30, os.strerror(30), "a.partial/oof.csv")

    with monkeypatch.context() as patch:
        patch.setattr(pipelines.rank, "calibrate_run", read_only)
        refused(
            run(*TREES, "--out", "a"), "Read-only file system (a.partial/oof.csv): make the folder writable, or choose"
        )
    assert run(*TREES, "--out", "a").code == 0


def test_out_of_memory(project: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def needs_more(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pipelines.rank, "calibrate_run", needs_more)
    refused(run(*TREES, "--out", "a"), "out of memory: close other programs, or use a machine with more memory")


def test_internal_error_keeps_its_traceback(project: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise FileNotFoundError(2, "gone", "a")

    monkeypatch.setattr(pipelines.rank, "calibrate_run", broken)
    with pytest.raises(FileNotFoundError):
        run(*TREES, "--out", "a")


@pytest.mark.parametrize("model", ["gbdt", "dcnv2"])
def test_commands_detect_flipped_bits_of_a_run(project: Path, run: Run, model: str) -> None:
    small = ("model.n_trees=20",) if model == "gbdt" else ("trainer.epochs=1",)
    for name in ("a", "b"):
        more = ("trainer.seed=1",) if name == "b" else ()
        assert run(*RANK, "--model", model, "--out", name, *small, *more).code == 0
    assert run("ensemble", "a", "b", "--out", "both", "--replicates", "100").code == 0
    pq.write_table(small_table(50, seed=3).drop_columns(["click"]), "test.parquet")
    files = [*Path("a/ckpt/fold_1").rglob("*"), Path("a/metrics.json"), Path("a/config.yaml"), Path("a/oof.csv")]
    files += [Path("both/stack.json"), Path("both/calibration.json"), Path("a/calibration.json")]
    for path in [path for path in files if path.is_file() and path.name not in ("DONE", ".metadata")]:
        whole = path.read_bytes()
        data = bytearray(whole)
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
        if path.name == "oof.csv":
            outcome = run("compare", "a", "b", "--replicates", "100")
        else:
            which = "a" if path == Path("a/calibration.json") else "both"
            outcome = run("submit", "--run", which, "--test", "test.parquet", "--out", "s.csv")
        refused(outcome, f"{path} is damaged or was changed")
        assert not Path("s.csv").exists()
        path.write_bytes(whole)
    assert run("submit", "--run", "both", "--test", "test.parquet", "--out", "s.csv").code == 0


def test_flipped_bits_of_prepared_data(project: Path, run: Run) -> None:
    assert run(*PREPARE).code == 0
    folder = Path("prepared/mine")
    for path in sorted(set(folder.iterdir()) - {folder / "DONE", folder / "config.yaml"}):  # users may edit the config
        whole = path.read_bytes()
        data = bytearray(whole)
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
        outcome = run("rank", "--config", "config.yaml", "--data", "prepared/mine", "--model", "gbdt", "--out", "a")
        assert outcome.code == 2, path
        assert str(path) in outcome.err or path.name == "schema.json"
        assert outcome.err.count("\n") == 1
        path.write_bytes(whole)


def test_prepared_data_of_another_version(project: Path, run: Run) -> None:
    assert run(*PREPARE).code == 0
    path = Path("prepared/mine/schema.json")
    manifest = json.loads(path.read_text()) | {"format_version": 1}
    path.write_text(json.dumps(manifest))
    seal(path.parent)
    command = ("rank", "--config", "config.yaml", "--data", "prepared/mine", "--model", "gbdt", "--out", "a")
    refused(run(*command), "was prepared by another version: run python -m pipelines.prepare again")
    shutil.rmtree("prepared/mine")
    assert run(*PREPARE).code == 0
    assert run(*command, "model.n_trees=20").code == 0


def test_resumes_from_the_older_checkpoint_if_the_newest_is_damaged(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (*RANK, "--model", "dcnv2", "trainer.epochs=2", "trainer.checkpoint_every_s=1e-9")
    assert run(*command, "--out", "whole").code == 0
    with monkeypatch.context() as patch:

        def killed(*args: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("recsys.training.trainer.Trainer.clean_up", killed)
        assert run(*command, "--out", "a").code == 130
    slots = [Path(f"a.partial/ckpt/fold_0-{slot}") for slot in "ab"]
    steps = {slot: json.loads((slot / "progress.json").read_text())["step"] for slot in slots}
    newest = max(slots, key=lambda slot: steps[slot])
    path = max(newest.glob("*.distcp"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    for part in Path("a.partial/parts").iterdir():
        part.unlink()
    outcome = run(*command, "--out", "a")
    assert outcome.code == 0, outcome.err
    assert f"{path} is damaged or was changed" in outcome.out
    assert f"resumes at step {min(steps.values())} of" in outcome.out
    assert Path("a/oof.csv").read_bytes() == Path("whole/oof.csv").read_bytes()


def test_damaged_parts_of_an_unfinished_run(project: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:

        def killed(*args: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(pipelines.rank, "calibrate_run", killed)
        assert run(*TREES, "--out", "a").code == 130
    path = Path("a.partial/parts/fold_1.1.npz")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    outcome = run(*TREES, "--out", "a")
    refused(outcome, "fold_1.1.npz is damaged")
    Path("a.partial/parts/fold_1.json").unlink()  # as the message says
    assert run(*TREES, "--out", "a").code == 0


@pytest.mark.parametrize("step", ["shutil.rmtree", "rename_partial"])
def test_a_run_killed_after_its_last_file_is_not_fitted_again(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patch:

        def killed(*args: object, **kwargs: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(f"recsys.runs.folder.{step}", killed)
        assert run(*TREES, "--out", "a").code == 130
    assert not Path("a").exists()
    with monkeypatch.context() as patch:
        patch.setattr(pipelines.rank, "fit_split", killed)
        outcome = run(*TREES, "--out", "a")
    assert outcome.code == 0, outcome
    names = {path.name for path in Path("a").iterdir()}
    assert {"DONE", "metrics.json", "oof.csv"} < names
    assert names.isdisjoint({"parts", ".lock"})
    assert not Path("a.partial").exists()


def test_submission_gets_its_name_when_it_is_complete(project: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(*TREES, "--out", "a").code == 0
    submit = ("submit", "--run", "a", "--test", "raw/train.parquet", "--out", "s.csv")
    with monkeypatch.context() as patch:

        def full(*args: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr("pipelines.submit.write_json", full)
        refused(run(*submit), "free some space")
    assert not Path("s.csv").exists()
    assert run(*submit).code == 0
    assert Path("s.json").exists()


def test_ctrl_c_that_a_library_wraps_in_its_own_error(project: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*args: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except BaseException as error:
            raise CheckpointException("save", {0: _wrap_exception(error)}) from error

    with monkeypatch.context() as patch:
        patch.setattr(pipelines.rank, "calibrate_run", save)
        outcome = run(*TREES, "--out", "a")
    assert (outcome.code, outcome.err) == (130, f"{MESSAGE}\n")
    assert run(*TREES, "--out", "a").code == 0


def test_ctrl_c_while_a_pipeline_is_imported() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.rank", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.communicate() == ("", f"{MESSAGE}\n")
        assert process.returncode == 130


def test_importing_pipelines_keeps_the_default_sigint_handler() -> None:
    code = "import pipelines, signal; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_ctrl_c_ends_with_130(project: Path) -> None:
    command = [sys.executable, "-m", "pipelines.rank", *RANK[1:], "--model", "dcnv2", "--out", "a"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "trainer.epochs=10000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if "epoch 1/10000" in line:
                break
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr.read() == f"{MESSAGE}\n"
    assert not Path("a").exists()
    assert Path("a.partial").is_dir()
