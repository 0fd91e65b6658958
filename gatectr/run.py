"""A finished run: its metrics, its out-of-fold predictions, and the scores of new rows."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from torch import nn

from gatectr.quiet import printing, public
from gatectr.settings import check_choice, read_model
from gatectr.tables import Rows, as_files
from pipelines.common.layers import load_sections
from pipelines.parts.run_data import ScoringRun, final_run
from ranking.own_model import name_model
from recsys.config import Values
from recsys.data.layout import CONFIG_FILE
from recsys.errors import InputError
from recsys.evaluation.metrics import METRIC_NAMES
from recsys.evaluation.shown import TITLES, format_metric
from recsys.own_code import is_path
from recsys.runs.config import read_values
from recsys.runs.layout import OOF_FILE
from recsys.runs.metrics import RunMetrics, read_metrics
from recsys.runs.predictions import read_predictions
from recsys.runs.rows_to_score import FileRows
from recsys.runs.submission import Scale, ScoredRows
from recsys.runs.summary import metrics_of_subsets, print_summary
from recsys.system.progress import console


class Run:
    """A finished run, ensemble or plan.

    Args:
        folder: the folder.
        data: the prepared data set; None takes the one that the run recorded.
        models: classes of the user's own models that the run may load, or their paths.
        temporary: a folder that holds the run, which is removed with this object.
    """

    def __init__(
        self,
        folder: Path,
        data: Path | None = None,
        models: Sequence[type[nn.Module] | str] = (),
        temporary: "TemporaryDirectory[str] | None" = None,
    ) -> None:
        self.folder, self._data, self._temporary = final_run(Path(folder)), data, temporary
        for model in models:
            name, _ = read_model(model)
            if is_path(name):
                name_model(name)

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.name

    @cached_property
    def metrics(self) -> RunMetrics:
        """The content of metrics.json: `run.metrics.overall.roc_auc`, `run.metrics.folds["fold_0"].logloss`."""
        return read_metrics(self.folder)

    @cached_property
    def config(self) -> Values:
        """The settings, with all defaults: the content of config.yaml."""
        return read_values(self.folder)

    @public
    def predict(self, rows: Rows, scale: Scale = "natural", verbose: bool = False) -> np.ndarray:
        """Scores rows, with the encodings, side tables, fold models and calibration of the run.

        Args:
            rows: a pandas, polars or Arrow table, a mapping of columns, or paths of files, with the columns of the
                training data; the label is not needed.
            scale: natural: p, the click probability; balanced: q, that of equally frequent classes.
            verbose: whether to show a progress line.

        Returns:
            [n] float64 probabilities, in the order of the rows.

        Raises:
            InputError: if a column is missing or has another type than in the training data.
        """
        check_choice("scale", scale, Scale)
        with printing(verbose), as_files(rows) as paths:
            source = FileRows(self._scoring.dataset, paths, self._side_folder)
            scored = ScoredRows(self._scoring.scorer.log_pos_weight)
            for ids, logit in self._scoring.score(source):
                scored.add(ids, logit)
        logits = scored.logits
        return np.asarray(logits.p if scale == "natural" else logits.q, np.float64)

    @public
    def oof(self) -> pa.Table:
        """The reported predictions of rows that the models were not fitted to, as an Arrow table.

        Columns: row_id and fold as text, label, logit, p, and weight, user, day and others where the data has them.

        Raises:
            InputError: if the run is not finished, or its oof.csv was modified.
        """
        read_predictions(self.folder)  # its checks
        text = pa_csv.ConvertOptions(column_types={"row_id": pa.string(), "fold": pa.string()})
        return pa_csv.read_csv(self.folder / OOF_FILE, convert_options=text)

    @public
    def table(self) -> pa.Table:
        """The metrics as an Arrow table: a row for each fold or split, all folds, each baseline and each segment.

        Columns: subset as text, rows and positive, and every metric that some row has, null where it is undefined.
        """
        subsets = metrics_of_subsets(self.metrics)
        columns: dict[str, list[Any]] = {
            "subset": list(subsets),
            "rows": [figures.n_rows for figures in subsets.values()],
            "positive": [figures.n_positive for figures in subsets.values()],
        }
        for name in METRIC_NAMES:
            values = [figures.value(name) for figures in subsets.values()]
            if any(value is not None for value in values):
                columns[name] = values
        return pa.table(columns)

    @cached_property
    def _scoring(self) -> ScoringRun:
        return ScoringRun.open(self.folder, self._data)

    @property
    def _side_folder(self) -> Path | None:
        """The folder of side tables: that of the raw files which the data was prepared from."""
        config = self._scoring.dataset.folder / CONFIG_FILE
        if not config.is_file():
            return None
        folder = (load_sections(config).get("files") or {}).get("folder")
        return Path(folder) if folder and Path(folder).is_dir() else None

    def __str__(self) -> str:
        """The table of metrics that the commands print."""
        with console.capture() as printed:
            print_summary(self.metrics, self.name)
        return printed.get()

    def __repr__(self) -> str:
        try:
            metrics = self.metrics
        except InputError:
            return f"Run({str(self.folder)!r}, not finished)"
        shown = ", ".join(
            f"{TITLES[name]} {format_metric(value, metrics.sd[name])}"
            for name in metrics.shown
            if (value := metrics.overall.value(name)) is not None
        )
        return f"Run({str(self.folder)!r}: {shown})"
