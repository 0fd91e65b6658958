"""The data set and the models of a finished run, to score rows with."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines.common.data import open_data
from ranking.scoring import RunData, Scorer, find_run_data, load_scorer, score_blocks
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.runs.layout import PLAN_STATE_FILE
from recsys.runs.rows_to_score import RowsToScore
from recsys.system.allocator import keep_freed_memory
from recsys.system.files import read_json
from recsys.system.progress import progress_line
from recsys.system.world import join_world


def final_run(run: Path) -> Path:
    """The final run folder of a plan; any other folder unchanged.

    Raises:
        InputError: for a plan without a final run.
    """
    path = run / PLAN_STATE_FILE
    if not path.is_file():
        return run
    final = read_json(path).get("final")
    if final is None:
        raise InputError(f"{run} is a plan without a final run: pass one of its run folders")
    return run / str(final)


@dataclass(frozen=True)
class ScoringRun:
    """A finished run with the data set that encodes rows for it."""

    folder: Path
    data: RunData
    dataset: PreparedDataset

    @classmethod
    def open(cls, run: Path, data: Path | None) -> "ScoringRun":
        """Opens a run, an ensemble or the final run of a plan.

        Args:
            run: the folder.
            data: the prepared data set; None opens the one that the run recorded.

        Raises:
            InputError: if the run is not finished, or its data set is missing.
        """
        folder = final_run(run)
        found = find_run_data(folder)
        return cls(folder, found, open_data(found.folder, data, f"of {folder}"))

    @cached_property
    def scorer(self) -> Scorer:
        """The models, loaded once."""
        return self.load_scorer()

    def load_scorer(self, is_calibrated: bool = True) -> Scorer:
        """Loads the models, with or without the calibration of the run."""
        keep_freed_memory()
        return load_scorer(self.folder, self.data, self.dataset, join_world(), is_calibrated)

    def score(self, rows: RowsToScore) -> Iterator[tuple[pa.Array, np.ndarray]]:
        """Yields blocks of (ids as text, [n] natural logits), in the order of the rows, with a progress line."""
        with progress_line("scoring", rows.n_rows) as line:
            for (ids, _), logit in score_blocks(self.scorer, rows.blocks(), lambda block: block[1]):
                line.advance(len(ids))
                yield ids, logit
