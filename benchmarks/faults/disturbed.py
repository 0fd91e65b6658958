"""The pipelines that faults are injected into, and the checks of their output afterwards."""

import filecmp
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.faults.forked import run
from benchmarks.faults.result import ProcessResult
from pipelines.common.cli import EXIT_BAD_INPUT, TOSS_CONFIG
from recsys.system.files import partial_folder
from recsys.system.lock import LOCK_FILE


@dataclass(frozen=True)
class Command:
    """A pipeline's command, and the files that must be identical after any fault."""

    name: str
    arguments: tuple[str, ...]
    results: tuple[str, ...]
    """Files in its --out folder; empty where --out is a file."""

    def out(self, fault: str) -> Path:
        """The output path for a fault."""
        return Path(f"{self.name}-{fault}{'' if self.results else '.csv'}")

    def run(self, out: Path, *more: str, on_start: Callable[[BaseProcess], object] | None = None) -> ProcessResult:
        """Runs the pipeline until it ends or `on_start` stops it."""
        return run(self.name, [*self.arguments, "--out", out, *more], on_start)

    def is_same(self, out: Path) -> bool:
        """Whether an output equals that of the undisturbed run."""
        undisturbed = self.out("whole")
        if self.results:
            return all(filecmp.cmp(out / name, undisturbed / name, shallow=False) for name in self.results)
        suffixes = (".csv", ".json")
        return all(filecmp.cmp(out.with_suffix(s), undisturbed.with_suffix(s), shallow=False) for s in suffixes)


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
"""In dependency order: each command reads outputs of earlier ones. Add a new pipeline here."""


@dataclass(frozen=True)
class Row:
    """A row of the table of faults."""

    fault: str
    message: str
    state: str
    second_result: str
    is_fine: bool


def run_again(command: Command, out: Path) -> tuple[str, bool]:
    """Runs the command again; returns its result, and whether it left exactly the undisturbed run's output."""
    was_finished = out.exists()
    attempt = command.run(out)
    if attempt.code != (EXIT_BAD_INPUT if was_finished and not command.results else 0):
        return attempt.outcome, False
    same = command.is_same(out)
    leftovers = [path.name for path in (partial_folder(out), lock_file_of(out)) if path.exists()]
    leftovers += [path.name for path in out.glob(".lock")]
    for path in (out, out.with_suffix(".json")):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    result = "already finished" if was_finished else "same result" if same else "different result"
    return result + "".join(f"; {name} remains" for name in leftovers), same and not leftovers


def lock_file_of(out: Path) -> Path:
    """The lock file of an output that is a file."""
    return out.with_name(out.name + LOCK_FILE)


def state_of(out: Path) -> str:
    """The state of a disturbed run's output."""
    if out.exists():
        return "finished"
    return "unfinished .partial" if partial_folder(out).exists() else "nothing"


def row_of_failed_run(
    fault: str, command: Command, first: ProcessResult, out: Path, mend: Callable[[], object] = lambda: None
) -> Row:
    """The row of a run that must fail with a message, and of a second attempt after `mend` removes the fault."""
    left = state_of(out)
    mend()
    second, same = run_again(command, out)
    is_fine = first.code == EXIT_BAD_INPUT and not first.has_traceback and same
    message = first.outcome.replace(f"{out.parent}/", "") if out.is_absolute() else first.outcome
    return Row(f"{command.name}: {fault}", message, left, second, is_fine)
