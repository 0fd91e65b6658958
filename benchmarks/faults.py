"""Faults, brought about for real: what each pipeline says, what it leaves, and whether a second attempt succeeds.

python -m benchmarks.faults
python -m benchmarks.faults --kills 1
"""

import contextlib
import filecmp
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.forked import Ended, run
from pipelines.cli import EXIT_BAD_INPUT, TOSS_CONFIG, run_pipeline
from pipelines.interrupt import EXIT_INTERRUPTED
from recsys.files import partial_folder
from recsys.lock import LOCK_FILE
from recsys.progress import console
from recsys.seal import DONE, seal

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Command:
    """A pipeline, and which of its files must be the same however often it was disturbed."""

    name: str
    arguments: tuple[str, ...]
    results: tuple[str, ...]
    """Files in its --out folder; empty where --out is a file."""

    def out(self, fault: str) -> Path:
        """A name for its output."""
        return Path(f"{self.name}-{fault}{'' if self.results else '.csv'}")

    def run(self, out: Path, *more: str, meanwhile: Callable[[BaseProcess], object] | None = None) -> Ended:
        """To its end, or until it is disturbed."""
        return run(self.name, [*self.arguments, "--out", out, *more], meanwhile)

    def is_same(self, out: Path) -> bool:
        """Whether an output is that of the undisturbed run."""
        whole = self.out("whole")
        if self.results:
            return all(filecmp.cmp(out / name, whole / name, shallow=False) for name in self.results)
        suffixes = (".csv", ".json")
        return all(filecmp.cmp(out.with_suffix(s), whole.with_suffix(s), shallow=False) for s in suffixes)


PREPARE = Command(
    "prepare",
    ("--train", "raw/train.parquet", "--test", "raw/test.parquet"),
    ("schema.json", "vocab.json", "stats.json", "rows.arrow", "tokens_seq.arrow", "fold_indices.npy"),
)
RANK = Command(
    "rank",
    (
        *("--model", "dcnv2", "--data", "prepare-whole", "--folds", "0,1", "trainer.checkpoint_every_s=0.2"),
        *("trainer.epochs=2", "trainer.batch_size=256", "trainer.early_stopping=null"),
    ),
    ("oof.csv", "calibration.json"),
)
ENSEMBLE = Command("ensemble", ("rank-whole", "other", "--replicates", "1000"), ("oof.csv", "stack.json"))
SUBMIT = Command("submit", ("--run", "ensemble-whole", "--test", "raw/test.parquet"), ())
RETRIEVAL = Command(
    "retrieval",
    (
        *("--config", str(TOSS_CONFIG), "--data", "prepare-whole", "trainer.checkpoint_every_s=0.2"),
        *("trainer.epochs=2", "trainer.batch_size=256"),
    ),
    ("scores.parquet", "candidates.parquet", "index.faiss"),
)
COMMANDS = (PREPARE, RANK, ENSEMBLE, SUBMIT, RETRIEVAL)
"""In an order in which each finds what the ones before it made. A new pipeline takes its place here."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    fault: str
    said: str
    left: str
    second: str
    is_fine: bool


def faults(
    kills: Annotated[int, typer.Option(min=1, help="Times that each pipeline is killed, at random moments.")] = 20,
    rows: Annotated[int, typer.Option(min=1000, help="Generated rows to work on.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the moments.")] = 0,
    keep: Annotated[bool, typer.Option(help="Leave the working folder.")] = False,
) -> None:
    """Bring faults about and print what came of them; exit code 1 when one did not end as it should."""
    start = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    here = Path.cwd()
    found = []
    try:
        os.chdir(folder)
        for row in bring_about(rows, kills, seed):
            console.print(
                f"{time.perf_counter() - start:4.0f} s  {'as it should' if row.is_fine else 'NOT':12}  {row.fault}"
            )
            found.append(row)
    finally:
        os.chdir(here)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    table = Table(title="faults", title_justify="left", show_lines=True)
    for column in ("fault", "what was said", "state left", "second attempt"):
        table.add_column(column, overflow="fold")
    for row in found:
        table.add_row(row.fault, row.said, row.left, row.second, style=None if row.is_fine else "red")
    console.print(table)
    wrong = sum(not row.is_fine for row in found)
    console.print(f"{len(found)} faults, {wrong} that did not end as they should; {time.perf_counter() - start:.0f} s")
    if wrong:
        raise typer.Exit(1)


def bring_about(rows: int, kills: int, seed: int) -> Iterator[Row]:
    """Every fault in turn, in the working folder."""
    moments = random.Random(seed)
    _must(run("generate", ["--rows", str(rows), "--out", "raw"]))
    seconds = {}
    for command in COMMANDS:
        seconds[command] = _must(command.run(command.out("whole"))).seconds
        if command is RANK:
            _must(command.run(Path("other"), "model.embedding_dim=4"))
    for command in COMMANDS:
        yield at_random(command, signal.SIGKILL, [moments.uniform(0, seconds[command]) for _ in range(kills)])
    for command in COMMANDS:
        times = max(1, kills // 4)
        yield at_random(command, signal.SIGINT, [moments.uniform(0, seconds[command]) for _ in range(times)])
    imports = _must(interrupted_after(60, ["prepare", "--help"])).seconds
    for command in COMMANDS:
        # Python itself takes the first tenth of a second, in which nothing of ours can answer
        yield while_importing(command, moments.uniform(0.2, 0.7 * imports))
    for command in COMMANDS:
        yield full_disk(command)
    for command in (RANK, RETRIEVAL, ENSEMBLE):
        yield read_only(command)
    for command in COMMANDS:
        yield two_processes(command)
    yield from flipped()
    yield flipped_checkpoint()
    for command in (RANK, RETRIEVAL):
        yield other_schema(command)
        yield other_version(command)


def _must(undisturbed: Ended) -> Ended:
    if undisturbed.code != 0:
        raise RuntimeError(f"an undisturbed run failed: {undisturbed.said}")
    return undisturbed


def again(command: Command, out: Path) -> tuple[str, bool]:
    """The second attempt, and whether it left what the undisturbed run did, and nothing else."""
    was_finished = out.exists()
    attempt = command.run(out)
    if attempt.code != (EXIT_BAD_INPUT if was_finished and not command.results else 0):
        return f"exit code {attempt.code}: {attempt.said}", False
    same = command.is_same(out)
    beside = [path.name for path in (partial_folder(out), _lock_beside(out)) if path.exists()]
    beside += [path.name for path in out.glob(".lock")]
    for path in (out, out.with_suffix(".json")):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    said = "was finished" if was_finished else "same result" if same else "another result"
    return said + "".join(f"; {name} is left over" for name in beside), same and not beside


def _lock_beside(out: Path) -> Path:
    return out.with_name(out.name + LOCK_FILE)


def _state(out: Path) -> str:
    """What a disturbed run left under its names."""
    if out.exists():
        return "finished"
    return "unfinished .partial" if partial_folder(out).exists() else "nothing"


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
        left.append(_state(out))
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
    left = _state(out)
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


def refused(fault: str, command: Command, first: Ended, out: Path, mend: Callable[[], object] = lambda: None) -> Row:
    """What became of a run that had to be refused, and of a second attempt once the fault is mended."""
    left = _state(out)
    mend()
    second, same = again(command, out)
    is_fine = first.code == EXIT_BAD_INPUT and not first.has_traceback and same
    said = first.said.replace(f"{out.parent}/", "") if out.is_absolute() else first.said
    return Row(f"{command.name}: {fault}", f"exit code {first.code}: {said}", left, second, is_fine)


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
    while not (partial_folder(out) / LOCK_FILE).exists() and not _lock_beside(out).exists() and process.is_alive():
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
    left, files = _state(out), list(checkpoints.glob("fold_0-[ab]/*.distcp"))
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


if __name__ == "__main__":
    run_pipeline(faults)
