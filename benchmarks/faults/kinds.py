"""The kinds of faults: each brought about in one pipeline, and what came of it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
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
    again,
    lock_beside,
    refused,
    state_of,
)
from benchmarks.faults.forked import Ended
from pipelines.common.interrupt import EXIT_INTERRUPTED
from recsys.system.files import partial_folder
from recsys.system.lock import LOCK_FILE
from recsys.system.progress import console
from recsys.system.seal import DONE, seal

ROOT = Path(__file__).parents[2]


def _count(what: list[str]) -> str:
    return ", ".join(f"{n} x {one}" for one, n in Counter(what).items())


def at_random(command: Command, what: signal.Signals, moments: list[float]) -> Row:
    """A signal at each moment (seconds from the start of a run), and a second attempt after each."""
    said, left, second, fine = [], [], [], []
    for number, moment in enumerate(moments):
        out = command.out(f"{what.name}-{number}")
        first = command.run(out, meanwhile=partial(_send_after, moment, what))
        expected = -signal.SIGKILL if what is signal.SIGKILL else EXIT_INTERRUPTED
        said.append("hit" if first.code == expected else f"exit code {first.code}")
        if first.said != "-":
            said[-1] += f": {first.said}"
        if first.has_traceback:
            console.print(first.stderr)
        left.append(state_of(out))
        answer, same = again(command, out)
        second.append(answer)
        fine.append(same and first.code in (expected, 0) and not first.has_traceback)
    fault = f"{command.name}: {what.name}, {len(moments)} random moment{'s' * (len(moments) > 1)}"
    return Row(fault, _count(said), _count(left), _count(second), all(fine))


def _send_after(moment: float, what: signal.Signals, process: BaseProcess) -> None:
    process.join(moment)
    if process.exitcode is None and process.pid is not None:
        os.kill(process.pid, what)


def while_importing(command: Command, moment: float) -> Row:
    """Ctrl-C before a pipeline has begun, some seconds after its start."""
    out = command.out("importing")
    first = interrupted_after(moment, [command.name, *command.arguments, "--out", str(out)])
    left = state_of(out)
    second, same = again(command, out)
    is_fine = first.code == EXIT_INTERRUPTED and not first.has_traceback and same
    fault = f"{command.name}: SIGINT in its imports, after {moment:.1f} s"
    return Row(fault, f"exit code {first.code}: {first.said}", left, second, is_fine)


def interrupted_after(moment: float, arguments: list[str]) -> Ended:
    """Runs a pipeline as a user does; SIGINT after some seconds, if it has not ended by then."""
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", f"pipelines.{arguments[0]}", *arguments[1:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
    return Ended(process.returncode, stderr, time.perf_counter() - start)


@contextlib.contextmanager
def tmpfs(size: int) -> Iterator[Path | None]:
    """A small file system in memory, of some bytes, or None where it cannot be mounted."""
    folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    """Changes a file system's size, or whether it can be written."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def _skipped(fault: str) -> Row:
    return Row(fault, "skipped: no tmpfs can be mounted here (root can)", "-", "-", True)


def full_disk(command: Command) -> Row:
    """Room for a tenth, a half and nine tenths of the output, then for all of it."""
    whole, fault = command.out("whole"), "disk full at 10, 50 and 90 % of its output"
    n_bytes = sum(path.stat().st_size for path in [whole, *whole.rglob("*")] if path.is_file())
    rows = []
    for share in (0.1, 0.5, 0.9):
        with tmpfs(int(share * n_bytes)) as disk:
            if disk is None:
                return _skipped(f"{command.name}: disk full")
            out = disk / command.out("out")
            rows.append(refused(fault, command, command.run(out), out, partial(remount, disk, "size=1g")))
    said, left, second = (_count([getattr(row, name) for row in rows]) for name in ("said", "left", "second"))
    return Row(rows[0].fault, said, left, second, all(row.is_fine for row in rows))


def read_only(command: Command) -> Row:
    """An unfinished run whose folder can no longer be written."""
    with tmpfs(1 << 30) as disk:
        if disk is None:
            return _skipped(f"{command.name}: run folder read-only")
        out = disk / command.out("out")

        def kill_at_once(process: BaseProcess) -> None:
            _wait_for_lock(out, process)
            process.kill()

        command.run(out, meanwhile=kill_at_once)
        remount(disk, "ro")
        return refused("run folder read-only", command, command.run(out), out, partial(remount, disk, "rw"))


def two_processes(command: Command) -> Row:
    """The same command twice at the same time."""
    out, others = command.out("twice"), []

    def start_another(first: BaseProcess) -> None:
        _wait_for_lock(out, first)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGSTOP)  # else it might be through before the other has begun
        others.append(command.run(out))
        os.kill(first.pid, signal.SIGCONT)

    first, other = command.run(out, meanwhile=start_another), others[0]
    same = first.code == 0 and command.is_same(out)
    left = "the first goes on: " + ("same result" if same else f"exit code {first.code}: {first.said}")
    row = refused("two processes with one --out", command, other, out)
    return Row(row.fault, row.said, left, row.second, row.is_fine and same)


def _wait_for_lock(out: Path, process: BaseProcess) -> None:
    """Until a process holds what it writes, or has ended."""
    while not (partial_folder(out) / LOCK_FILE).exists() and not lock_beside(out).exists() and process.is_alive():
        time.sleep(0.001)


def flip(path: Path) -> bytes:
    """A file's bytes with one bit flipped."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    return bytes(data)


@contextlib.contextmanager
def changed(path: Path, data: bytes) -> Iterator[None]:
    """A file with other bytes while the block runs."""
    kept = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(kept)


def flipped() -> Iterator[Row]:
    """One flipped bit in what a pipeline reads."""
    for command, what, path in (
        (SUBMIT, "the weights", max(Path("rank-whole/ckpt/fold_0").glob("*.distcp"))),
        (SUBMIT, "the stack", Path("ensemble-whole/stack.json")),
        (ENSEMBLE, "the predictions", Path("rank-whole/oof.csv")),
        (RANK, "prepared data", Path("prepare-whole/rows.arrow")),
        (RETRIEVAL, "prepared data", Path("prepare-whole/vocab.json")),
    ):
        out = command.out("flipped")
        with changed(path, flip(path)):
            first = command.run(out)
        yield refused(f"a flipped bit in {what}", command, first, out)


def flipped_checkpoint() -> Row:
    """One flipped bit in each checkpoint of an unfinished fit: it goes on from another, or begins anew."""
    command = replace(RANK, arguments=(*RANK.arguments, "trainer.checkpoint_every_s=0.001"))
    out = command.out("flipped")
    checkpoints = partial_folder(out) / "ckpt"

    def kill_after_two(process: BaseProcess) -> None:
        while process.is_alive() and len(list(checkpoints.glob(f"fold_0-*/{DONE}"))) < 2:
            time.sleep(0.001)
        process.kill()

    command.run(out, meanwhile=kill_after_two)
    left, files = state_of(out), list(checkpoints.glob("fold_0-[ab]/*.distcp"))
    for path in files:
        path.write_bytes(flip(path))
    second, same = again(command, out)
    fault = f"rank: a flipped bit in {len(files)} checkpoints of an unfinished run"
    return Row(fault, "a warning", left, second, same and len(files) > 0)


def other_schema(command: Command) -> Row:
    """Prepared data of another schema."""
    out = command.out("other-schema")
    first = command.run(out, "schema.sequences.seq.max_length=10")
    return refused("prepared data of another schema", command, first, out)


def other_version(command: Command) -> Row:
    """Prepared data of another version."""
    out, prepared = command.out("other-version"), PREPARE.out("whole")
    manifest, done = prepared / "schema.json", prepared / DONE
    older = json.loads(manifest.read_text(encoding="utf-8")) | {"format_version": 1}
    with changed(done, done.read_bytes()), changed(manifest, json.dumps(older).encode()):
        seal(prepared)
        first = command.run(out)
    return refused("prepared data of another version", command, first, out)
