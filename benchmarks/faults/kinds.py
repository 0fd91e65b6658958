"""The kinds of faults: each function injects one kind into a pipeline and returns its row of the table."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.faults.disturbed import (
    ENSEMBLE,
    PREPARE,
    RANK,
    RETRIEVAL,
    SUBMIT,
    Command,
    Row,
    lock_file_of,
    row_of_failed_run,
    run_again,
    state_of,
)
from benchmarks.faults.signals import count
from recsys.system.files import partial_folder
from recsys.system.lock import LOCK_FILE
from recsys.system.seal import DONE, seal


@contextlib.contextmanager
def tmpfs(size: int) -> Iterator[Path | None]:
    """Mounts an in-memory file system of `size` bytes; yields its folder, or None if it cannot be mounted."""
    folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    """Remounts a file system with another size or with another write access."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def _skipped(fault: str) -> Row:
    return Row(fault, "skipped: cannot mount a tmpfs, run as root", "-", "-", True)


def full_disk(command: Command) -> Row:
    """Fills the disk at 10, 50 and 90 % of the output; the second attempt has enough space."""
    undisturbed, fault = command.out("whole"), "disk full at 10, 50 and 90 % of its output"
    n_bytes = sum(path.stat().st_size for path in [undisturbed, *undisturbed.rglob("*")] if path.is_file())
    rows = []
    for share in (0.1, 0.5, 0.9):
        with tmpfs(int(share * n_bytes)) as disk:
            if disk is None:
                return _skipped(f"{command.name}: disk full")
            out = disk / command.out("out")
            rows.append(row_of_failed_run(fault, command, command.run(out), out, partial(remount, disk, "size=1g")))
    columns = ("message", "state", "second_result")
    message, state, second = (count([getattr(row, name) for row in rows]) for name in columns)
    return Row(rows[0].fault, message, state, second, all(row.is_fine for row in rows))


def read_only(command: Command) -> Row:
    """Makes the folder of an unfinished run read-only."""
    with tmpfs(1 << 30) as disk:
        if disk is None:
            return _skipped(f"{command.name}: run folder read-only")
        out = disk / command.out("out")

        def kill_at_once(process: BaseProcess) -> None:
            _wait_for_lock(out, process)
            process.kill()

        command.run(out, on_start=kill_at_once)
        remount(disk, "ro")
        return row_of_failed_run("run folder read-only", command, command.run(out), out, partial(remount, disk, "rw"))


def two_processes(command: Command) -> Row:
    """Runs the same command twice at the same time."""
    out, second_runs = command.out("twice"), []

    def start_another(first: BaseProcess) -> None:
        _wait_for_lock(out, first)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGSTOP)  # otherwise it could end before the second run starts
        second_runs.append(command.run(out))
        os.kill(first.pid, signal.SIGCONT)

    first, second = command.run(out, on_start=start_another), second_runs[0]
    same = first.code == 0 and command.is_same(out)
    left = "first process: " + ("same result" if same else first.outcome)
    row = row_of_failed_run("two processes with one --out", command, second, out)
    return Row(row.fault, row.message, left, row.second_result, row.is_fine and same)


def _wait_for_lock(out: Path, process: BaseProcess) -> None:
    """Waits until a process holds the lock of its output, or has ended."""
    while not (partial_folder(out) / LOCK_FILE).exists() and not lock_file_of(out).exists() and process.is_alive():
        time.sleep(0.001)


def flip(path: Path) -> bytes:
    """Returns a file's bytes with one bit flipped."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    return bytes(data)


@contextlib.contextmanager
def replaced_bytes(path: Path, data: bytes) -> Iterator[None]:
    """Replaces a file's bytes while the block runs."""
    original = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(original)


def flipped(commands: Sequence[Command]) -> Iterator[Row]:
    """Flips one bit in an input of each pipeline."""
    for command, description, pattern in (
        (SUBMIT, "the weights", "rank-whole/ckpt/fold_0/*.distcp"),
        (SUBMIT, "the stack", "ensemble-whole/stack.json"),
        (ENSEMBLE, "the predictions", "rank-whole/oof.csv"),
        (RANK, "prepared data", "prepare-whole/rows.arrow"),
        (RETRIEVAL, "prepared data", "prepare-whole/vocab.json"),
    ):
        if command not in commands:
            continue
        out, path = command.out("flipped"), max(Path().glob(pattern))
        with replaced_bytes(path, flip(path)):
            first = command.run(out)
        yield row_of_failed_run(f"a flipped bit in {description}", command, first, out)


def flipped_checkpoint() -> Row:
    """Flips one bit in each checkpoint of an unfinished fit: it resumes from another checkpoint, or starts again."""
    command = replace(RANK, arguments=(*RANK.arguments, "trainer.checkpoint_every_s=0.001"))
    out = command.out("flipped")
    checkpoints = partial_folder(out) / "ckpt"

    def kill_after_two(process: BaseProcess) -> None:
        while process.is_alive() and len(list(checkpoints.glob(f"fold_0-*/{DONE}"))) < 2:
            time.sleep(0.001)
        process.kill()

    command.run(out, on_start=kill_after_two)
    left, files = state_of(out), list(checkpoints.glob("fold_0-[ab]/*.distcp"))
    for path in files:
        path.write_bytes(flip(path))
    second, same = run_again(command, out)
    fault = f"rank: a flipped bit in {len(files)} checkpoints of an unfinished run"
    return Row(fault, "a warning", left, second, same and len(files) > 0)


def other_schema(command: Command) -> Row:
    """Runs the command with prepared data of another schema."""
    out = command.out("other-schema")
    first = command.run(out, "schema.sequences.seq.max_length=10")
    return row_of_failed_run("prepared data of another schema", command, first, out)


def other_version(command: Command) -> Row:
    """Runs the command with prepared data of an older format version."""
    out, prepared = command.out("other-version"), PREPARE.out("whole")
    manifest, done = prepared / "schema.json", prepared / DONE
    older = json.loads(manifest.read_text(encoding="utf-8")) | {"format_version": 1}
    with replaced_bytes(done, done.read_bytes()), replaced_bytes(manifest, json.dumps(older).encode()):
        seal(prepared)
        first = command.run(out)
    return row_of_failed_run("prepared data of another format version", command, first, out)
