"""The pipelines that faults are brought about in, and what is asked of them afterwards."""

import filecmp
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.faults.forked import Ended, run
from pipelines.common.cli import EXIT_BAD_INPUT, TOSS_CONFIG
from recsys.system.files import partial_folder
from recsys.system.lock import LOCK_FILE


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


def again(command: Command, out: Path) -> tuple[str, bool]:
    """The second attempt, and whether it left what the undisturbed run did, and nothing else."""
    was_finished = out.exists()
    attempt = command.run(out)
    if attempt.code != (EXIT_BAD_INPUT if was_finished and not command.results else 0):
        return f"exit code {attempt.code}: {attempt.said}", False
    same = command.is_same(out)
    beside = [path.name for path in (partial_folder(out), lock_beside(out)) if path.exists()]
    beside += [path.name for path in out.glob(".lock")]
    for path in (out, out.with_suffix(".json")):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    said = "was finished" if was_finished else "same result" if same else "another result"
    return said + "".join(f"; {name} is left over" for name in beside), same and not beside


def lock_beside(out: Path) -> Path:
    """The lock of an output that is a file."""
    return out.with_name(out.name + LOCK_FILE)


def state_of(out: Path) -> str:
    """What a disturbed run left under its names."""
    if out.exists():
        return "finished"
    return "unfinished .partial" if partial_folder(out).exists() else "nothing"


def refused(fault: str, command: Command, first: Ended, out: Path, mend: Callable[[], object] = lambda: None) -> Row:
    """What became of a run that had to be refused, and of a second attempt once the fault is mended."""
    left = state_of(out)
    mend()
    second, same = again(command, out)
    is_fine = first.code == EXIT_BAD_INPUT and not first.has_traceback and same
    said = first.said.replace(f"{out.parent}/", "") if out.is_absolute() else first.said
    return Row(f"{command.name}: {fault}", f"exit code {first.code}: {said}", left, second, is_fine)
