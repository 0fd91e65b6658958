"""Faults, brought about for real: what each pipeline says, what it leaves, and whether a second attempt succeeds.

python -m benchmarks.faults
python -m benchmarks.faults --kills 1 --rows 2000
"""

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pipelines.cli import TOSS_CONFIG, run_pipeline
from recsys.files import partial_folder
from recsys.lock import LOCK_FILE
from recsys.progress import console
from recsys.seal import seal

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 600


@dataclass(frozen=True)
class Command:
    """A pipeline, and which of its files must be the same however often it was disturbed."""

    name: str
    arguments: tuple[str, ...]
    results: tuple[str, ...]
    """Files in its --out folder; empty where --out is the file."""

    def line(self, out: Path, *more: str) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", f"pipelines.{self.name}", *self.arguments, "--out", str(out), *more]


COMMANDS = {
    "prepare": Command(
        "prepare",
        ("--train", "raw/train.parquet", "--test", "raw/test.parquet"),
        ("vocab.json", "stats.json", "rows.arrow", "tokens_seq.arrow", "fold_indices.npy"),
    ),
    "rank": Command(
        "rank",
        (
            *("--model", "dcnv2", "--data", "prepared", "--folds", "0,1", "trainer.checkpoint_every_s=0.5"),
            *("trainer.epochs=3", "trainer.early_stopping=null"),
        ),
        ("oof.csv", "calibration.json"),
    ),
    "ensemble": Command("ensemble", ("runs/a", "runs/b", "--replicates", "2000"), ("oof.csv", "stack.json")),
    "submit": Command("submit", ("--run", "runs/both", "--test", "raw/test.parquet"), ()),
}
"""A new pipeline takes its place here."""


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    said: str
    """Its last line on stderr."""
    seconds: float
    has_traceback: bool = False


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    fault: str
    said: str
    left: str
    second: str
    is_fine: bool


def faults(
    kills: Annotated[int, typer.Option(min=1, help="Times that each pipeline is killed, at random moments.")] = 5,
    rows: Annotated[int, typer.Option(min=1000, help="Generated rows to work on.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the moments.")] = 0,
    keep: Annotated[bool, typer.Option(help="Leave the working folder.")] = False,
) -> None:
    """Bring faults about and print what came of them; exit code 1 when one did not end as it should."""
    random.seed(seed)
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    here = Path.cwd()
    try:
        os.chdir(folder)
        found = list(bring_about(rows, kills))
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
    console.print(f"{len(found)} faults, {wrong} that did not end as they should")
    if wrong:
        raise typer.Exit(1)


def bring_about(rows: int, kills: int) -> Iterator[Row]:
    """Every fault in turn, in the working folder."""
    console.print("undisturbed runs to compare with")
    _must(run([sys.executable, "-m", "pipelines.generate", "--rows", str(rows), "--out", "raw"]))
    _must(run(COMMANDS["prepare"].line(Path("prepared"))))
    Path("runs").mkdir()
    for name, more in (("a", ()), ("b", ("model.embedding_dim=4",))):
        _must(run(COMMANDS["rank"].line(Path("runs", name), *more)))
    _must(run(COMMANDS["ensemble"].line(Path("runs/both"))))
    whole = {"prepare": Path("prepared"), "rank": Path("runs/a"), "ensemble": Path("runs/both")}
    seconds = {}
    for name, command in COMMANDS.items():
        out = Path(f"{name}-whole{'' if command.results else '.csv'}")
        seconds[name] = _must(run(command.line(out))).seconds
        whole.setdefault(name, out)
    for name, command in COMMANDS.items():
        yield kill(command, whole[name], seconds[name], kills)
        yield interrupt(command, whole[name])
    for name, command in COMMANDS.items():
        yield full_disk(command, whole[name])
    yield read_only(COMMANDS["rank"], whole["rank"])
    yield from flipped()
    yield other_schema()
    yield other_version()
    yield two_processes(COMMANDS["rank"], whole["rank"])


def run(line: list[str], after: Callable[["subprocess.Popen[str]"], None] | None = None) -> Ended:
    """Runs a command to its end; `after` it has started something may be done to it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    with subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        if after is not None:
            after(process)
        _, stderr = process.communicate(timeout=TIMEOUT_S)
    lines = [line for line in stderr.splitlines() if line.strip()]
    said = lines[-1] if lines else "-"
    return Ended(process.returncode, said, time.perf_counter() - start, "Traceback" in stderr)


def _must(ended: Ended) -> Ended:
    if ended.code != 0:
        raise RuntimeError(f"an undisturbed run failed: {ended.said}")
    return ended


def is_same(command: Command, out: Path, whole: Path) -> bool:
    """Whether an output is that of the undisturbed run."""
    if not command.results:
        return filecmp.cmp(out, whole, shallow=False)
    return all(filecmp.cmp(out / name, whole / name, shallow=False) for name in command.results)


def again(command: Command, out: Path, whole: Path) -> tuple[str, bool]:
    """The second attempt, and whether it made what the undisturbed run did."""
    ended = run(command.line(out))
    if ended.code == 2 and not command.results and out.exists():
        ended = Ended(0, "-", 0.0)  # a submission that was finished before is not written over
    if ended.code != 0:
        return f"exit code {ended.code}: {ended.said}", False
    same = is_same(command, out, whole)
    _remove(out)
    return ("same result" if same else "another result"), same


def _remove(*paths: Path) -> None:
    for path in paths:
        for one in (path, partial_folder(path), path.with_suffix(".json"), path.with_name(path.name + LOCK_FILE)):
            if one.is_dir():
                shutil.rmtree(one)
            elif one.exists():
                one.unlink()


def _state(out: Path) -> str:
    """What a disturbed run left under its names."""
    if out.exists():
        return "the finished output"
    return "an unfinished .partial" if partial_folder(out).exists() else "nothing"


def kill(command: Command, whole: Path, seconds: float, kills: int) -> Row:
    """kill -9 at random moments, each followed by a second attempt."""
    states: dict[str, int] = {}
    n_same = 0
    for number in range(kills):
        out = Path(f"{command.name}-killed-{number}{'' if command.results else '.csv'}")
        moment = random.uniform(0.2, 1.0) * seconds
        run(command.line(out), lambda process, moment=moment: _after(process, moment, signal.SIGKILL))  # type: ignore[misc]
        state = _state(out)
        states[state] = states.get(state, 0) + 1
        said, same = again(command, out, whole)
        n_same += same
        console.print(f"{command.name}: killed after {moment:.1f} s of {seconds:.1f}: {state}; then {said}")
    left = ", ".join(f"{n} x {state}" for state, n in states.items())
    fault = f"{command.name}: kill -9, {kills} random moments"
    return Row(fault, "-", left, f"{n_same} of {kills}: same result", n_same == kills)


def _after(process: "subprocess.Popen[str]", moment: float, what: signal.Signals) -> None:
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        process.send_signal(what)


def interrupt(command: Command, whole: Path) -> Row:
    """Ctrl-C as soon as something is being written."""
    out = Path(f"{command.name}-interrupted{'' if command.results else '.csv'}")

    def press(process: "subprocess.Popen[str]") -> None:
        _wait_for_lock(out, process)
        process.send_signal(signal.SIGINT)

    ended = run(command.line(out), press)
    state = _state(out)
    second, same = again(command, out, whole)
    is_fine = same and ended.code in (0, 130) and not ended.has_traceback
    return Row(f"{command.name}: SIGINT", f"exit code {ended.code}: {ended.said}", state, second, is_fine)


def _wait_for_lock(out: Path, process: "subprocess.Popen[str]") -> None:
    """Until a process holds what it writes, or has ended."""
    locks = (partial_folder(out) / LOCK_FILE, out.with_name(out.name + LOCK_FILE))
    while not any(lock.exists() for lock in locks) and process.poll() is None:
        time.sleep(0.02)


@contextmanager
def tmpfs(size: str) -> Iterator[Path | None]:
    """A small file system in memory, or None where it cannot be mounted."""
    folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=False)


def remount(folder: Path, option: str) -> None:
    """Changes a file system's size, or whether it can be written."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def full_disk(command: Command, whole: Path) -> Row:
    """Too little room for the output, then enough."""
    fault = f"{command.name}: disk full"
    with tmpfs("8k" if not command.results else "600k") as disk:
        if disk is None:
            return Row(fault, "skipped: no tmpfs can be mounted here (root can)", "-", "-", True)
        out = disk / f"out{'' if command.results else '.csv'}"
        filler = disk / "filler"
        if command.name == "ensemble":
            filler.write_bytes(b"\0" * 500_000)
        ended = run(command.line(out))
        state = _state(out)
        filler.unlink(missing_ok=True)
        remount(disk, "size=1g")
        second, same = again(command, out, whole)
    is_fine = ended.code == 2 and not ended.has_traceback and same
    return Row(fault, f"exit code {ended.code}: {_short(ended.said, disk)}", state, second, is_fine)


def _short(said: str, folder: Path) -> str:
    return said.replace(str(folder), "OUT")


def read_only(command: Command, whole: Path) -> Row:
    """An unfinished run whose folder can no longer be written."""
    fault = f"{command.name}: run folder read-only"
    with tmpfs("1g") as disk:
        if disk is None:
            return Row(fault, "skipped: no tmpfs can be mounted here (root can)", "-", "-", True)
        out = disk / "out"

        def begin(process: "subprocess.Popen[str]") -> None:
            _wait_for_lock(out, process)
            process.kill()

        run(command.line(out), begin)
        remount(disk, "ro")
        ended = run(command.line(out))
        state = _state(out)
        remount(disk, "rw")
        second, same = again(command, out, whole)
    is_fine = ended.code == 2 and not ended.has_traceback and same
    return Row(fault, f"exit code {ended.code}: {_short(ended.said, disk)}", state, second, is_fine)


def flipped() -> Iterator[Row]:
    """One flipped bit in the weights of a run, and one in prepared data."""
    submit, rank = COMMANDS["submit"], COMMANDS["rank"]
    weights = max(Path("runs/a/ckpt/fold_0").glob("*.distcp"))
    for what, path, command, out, whole in (
        ("weights", weights, submit, Path("flipped.csv"), Path("submit-whole.csv")),
        ("prepared data", Path("prepared/vocab.json"), rank, Path("flipped"), Path("runs/a")),
    ):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        kept = path.read_bytes()
        path.write_bytes(data)
        ended = run(command.line(out))
        state = _state(out)
        path.write_bytes(kept)
        second, same = again(command, out, whole)
        is_fine = ended.code == 2 and not ended.has_traceback and same
        yield Row(f"{command.name}: a flipped bit in {what}", f"exit code 2: {ended.said}", state, second, is_fine)


def other_schema() -> Row:
    """Prepared data of another schema."""
    command, out = COMMANDS["rank"], Path("other-schema")
    ended = run(command.line(out, "schema.sequences.seq.max_length=10"))
    state = _state(out)
    second, same = again(command, out, Path("runs/a"))
    is_fine = ended.code == 2 and not ended.has_traceback and same
    return Row("rank: prepared data of another schema", f"exit code {ended.code}: {ended.said}", state, second, is_fine)


def other_version() -> Row:
    """Prepared data of another version."""
    path, out = Path("prepared/schema.json"), Path("other-version")
    kept, done = path.read_bytes(), Path("prepared/DONE").read_bytes()
    path.write_text(json.dumps(json.loads(kept) | {"format_version": 1}))
    seal(path.parent)
    command = COMMANDS["rank"]
    ended = run(command.line(out))
    state = _state(out)
    path.write_bytes(kept)
    Path("prepared/DONE").write_bytes(done)
    second, same = again(command, out, Path("runs/a"))
    is_fine = ended.code == 2 and not ended.has_traceback and same
    return Row(
        "rank: prepared data of another version", f"exit code {ended.code}: {ended.said}", state, second, is_fine
    )


def two_processes(command: Command, whole: Path) -> Row:
    """The same command twice at the same time."""
    out, said = Path("twice"), []

    def start_another(first: "subprocess.Popen[str]") -> None:
        _wait_for_lock(out, first)
        first.send_signal(signal.SIGSTOP)  # else it might be through before the other has begun
        said.append(run(command.line(out)))
        first.send_signal(signal.SIGCONT)

    first = run(command.line(out), start_another)
    second = said[0]
    same = first.code == 0 and is_same(command, out, whole)
    is_fine = same and second.code == 2 and not second.has_traceback
    left = "the first goes on: " + ("same result" if same else f"exit code {first.code}: {first.said}")
    shown, _ = again(command, out, whole)
    return Row("rank: two processes on a run folder", f"exit code {second.code}: {second.said}", left, shown, is_fine)


if __name__ == "__main__":
    assert TOSS_CONFIG.is_absolute(), "the working folder is another"
    run_pipeline(faults)
