"""The run folder: config, metrics, checkpoints, logs and predictions of an experiment."""

import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import yaml

from recsys.config import validate
from recsys.errors import InputError
from recsys.evaluation.logits import Logits
from recsys.runs.config import RUN_SECTION, identity, with_provenance
from recsys.runs.layout import CHECKPOINTS, CONFIG_FILE, METRICS_FILE, OOF_FILE, PREDS_STATS_FILE, TENSORBOARD
from recsys.runs.metrics import FitSummary, MetricsT, RunMetrics, read_metrics, read_metrics_as, to_json
from recsys.runs.oof import write_oof
from recsys.runs.predictions import Predictions, join
from recsys.system.files import (
    begin_folder,
    check_free,
    is_done,
    missing_paths,
    partial_folder,
    read_json,
    remove_created,
    rename_partial,
    write_json,
)
from recsys.system.seal import PARTS, seal

SummaryT = TypeVar("SummaryT", bound=FitSummary)
_OPTIONAL = ("weight", "user", "day", "is_known")
"""The columns of predictions that not all data has."""


class RunFolder:
    """The folder of one experiment, written as `OUT.partial` and renamed to `OUT` when it is complete.

    A killed run leaves `OUT.partial`: the same command loads the fits that were finished and continues.

    Args:
        folder: the final path.
        config: the resolved config; saved before anything else.
        is_writer: whether this process writes; other processes only use the paths.

    Raises:
        InputError: if the folder contains something else, or a run of another config.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], is_writer: bool = True) -> None:
        if folder.name in ("", ".."):
            raise InputError(f"--out {folder} is not the name of a new folder: choose another --out")
        self.folder, self._config = folder, identity(config)
        self._partial = partial_folder(folder)
        self._created: list[Path] = []
        if is_done(folder):
            if self._saved_config(folder) != self._config:
                raise InputError(f"{folder} holds a finished run of another config: choose another --out, or remove it")
            return
        if not is_writer:
            return
        self._created = missing_paths(self._partial)
        check_free(folder, "run")
        begin_folder(folder, is_fresh=False)
        if (self._partial / CONFIG_FILE).is_file():
            if self._saved_config(self._partial) != self._config:
                raise InputError(
                    f"{self._partial} holds an unfinished run of another config: choose another --out, or remove it"
                )
            if is_done(self._partial):
                self._rename_to_final()
            return
        (self._partial / PARTS).mkdir(exist_ok=True)
        (self._partial / CHECKPOINTS).mkdir(exist_ok=True)
        temporary = self._partial / f"{CONFIG_FILE}.tmp"
        text = yaml.safe_dump(with_provenance(config), sort_keys=False, allow_unicode=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.rename(self._partial / CONFIG_FILE)

    @staticmethod
    def _saved_config(folder: Path) -> Mapping[str, Any]:
        try:
            values = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise InputError(f"{folder / CONFIG_FILE} cannot be read: choose another --out, or remove it") from error
        if isinstance(values, dict) and RUN_SECTION not in values:
            raise InputError(
                f"{folder} holds a run of an earlier version, which compare, ensemble and submit can read: "
                "choose another --out to run it again"
            )
        return identity(values) if isinstance(values, dict) else {}

    @property
    def is_done(self) -> bool:
        """Whether the run is finished."""
        return is_done(self.folder)

    @contextmanager
    def removed_if_refused(self) -> Iterator[None]:
        """Removes the unfinished folder, if it is new and has no finished fit, when the block raises InputError."""
        try:
            yield
        except InputError:
            if not any((self._partial / PARTS).glob("*.json")):
                remove_created(self._created)
            raise

    def metrics(self) -> RunMetrics:
        """Reads metrics.json of a finished ranking run or ensemble."""
        return read_metrics(self.folder)

    def metrics_as(self, kind: type[MetricsT]) -> MetricsT:
        """Reads metrics.json of a finished run of another kind."""
        return read_metrics_as(self.folder, kind)

    def tensorboard(self, fit: str) -> Path:
        """The TensorBoard folder of a fitted model."""
        return self._partial / TENSORBOARD / fit

    def weights(self, fit: str) -> Path:
        """The checkpoint folder of a fitted model."""
        return self._partial / CHECKPOINTS / fit

    def file(self, name: str) -> Path:
        """The path of another file of the unfinished run."""
        return self._partial / name

    def has_fit(self, fit: str) -> bool:
        """Whether an earlier start of this run fitted the model and saved its predictions."""
        return (self._partial / PARTS / f"{fit}.json").is_file()

    def save_fit(
        self,
        fit: str,
        predictions: Sequence[Predictions],
        summary: FitSummary,
        monitored: Predictions | None = None,
    ) -> None:
        """Saves a fitted model's predictions; the summary is written last and marks the fit as complete.

        Args:
            fit: the name of the fit.
            predictions: predictions of the evaluation rows.
            summary: the figures of the fit.
            monitored: predictions of the rows that early stopping monitored; may be one of `predictions`.
        """
        parts = {part.name: part for part in (*predictions, monitored) if part is not None}
        for fold in parts.values():
            np.savez(
                self._partial / PARTS / f"{fit}.{fold.name}.npz",
                row=fold.row,
                label=fold.label,
                natural=fold.logits.natural,
                log_pos_weight=fold.logits.log_pos_weight,
                log_sampling_rate=fold.logits.log_sampling_rate,
                allow_pickle=False,
                **_present(fold),
            )
        saved = {
            "parts": [fold.name for fold in predictions],
            "monitored": monitored.name if monitored is not None else None,
            "summary": summary.model_dump(mode="json"),
        }
        write_json(self._partial / PARTS / f"{fit}.json", saved)

    def load_predictions(self, fit: str) -> list[Predictions]:
        """Loads the saved predictions of a fitted model's evaluation rows.

        Raises:
            InputError: if a file is damaged.
        """
        return [self._load_part(fit, name) for name in read_json(self._partial / PARTS / f"{fit}.json")["parts"]]

    def load_monitored(self, fit: str) -> Predictions | None:
        """Loads the saved predictions of the rows that early stopping monitored; None if none were saved.

        Raises:
            InputError: if the file is damaged.
        """
        # a fit that an earlier version saved has no key
        name = read_json(self._partial / PARTS / f"{fit}.json").get("monitored")
        return self._load_part(fit, name) if name is not None else None

    def _load_part(self, fit: str, name: str) -> Predictions:
        path = self._partial / PARTS / f"{fit}.{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                log_sampling_rate = float(arrays.get("log_sampling_rate", 0))  # earlier versions saved no rate
                logits = Logits(arrays["natural"], arrays["log_pos_weight"], log_sampling_rate)
                columns = (arrays["row"], arrays["label"])
                # an earlier version wrote an empty array for no weights
                optional = [arrays[key] if key in arrays and len(arrays[key]) else None for key in _OPTIONAL]
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            summary_path = path.with_name(f"{fit}.json")
            raise InputError(f"{path} is damaged ({error}): remove {summary_path} to fit {fit} again") from error
        return Predictions.of_fold(name, *columns, logits, *optional)

    def load_summary(self, fit: str, kind: type[SummaryT]) -> SummaryT:
        """Loads the saved summary of a fitted model."""
        path = self._partial / PARTS / f"{fit}.json"
        return validate(kind, read_json(path)["summary"], str(path))

    def finish(self, metrics: RunMetrics, predictions: Sequence[Predictions], row_ids: pa.Array) -> None:
        """Writes the reported predictions, their statistics and metrics.json; renames the folder to its final name.

        Args:
            metrics: the content of metrics.json.
            predictions: the reported predictions.
            row_ids: row ids of the concatenated predictions.
        """
        write_oof(self._partial / OOF_FILE, join(predictions).oof_columns(row_ids))
        write_json(self._partial / PREDS_STATS_FILE, {fold.name: prediction_stats(fold) for fold in predictions})
        self.finish_with_metrics(to_json(metrics))

    def finish_with_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Writes metrics.json and renames the folder to its final name."""
        write_json(self._partial / METRICS_FILE, dict(metrics))
        seal(self._partial)  # before parts/ is removed: a run killed in between is complete
        self._rename_to_final()

    def _rename_to_final(self) -> None:
        shutil.rmtree(self._partial / PARTS, ignore_errors=True)
        rename_partial(self.folder)


def _present(predictions: Predictions) -> dict[str, np.ndarray]:
    columns = (predictions.weight, predictions.user, predictions.day, predictions.is_known)
    return {name: column for name, column in zip(_OPTIONAL, columns, strict=True) if column is not None}


def prediction_stats(predictions: Predictions) -> dict[str, dict[str, float]]:
    """The distribution of the reported predictions at both scales and of their natural logits."""
    scales = {"p": predictions.logits.p, "q": predictions.logits.q, "logit": predictions.logits.natural}
    return {scale: _distribution(values.astype(np.float64)) for scale, values in scales.items()}


def _distribution(values: np.ndarray) -> dict[str, float]:
    levels = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
    quantiles = {f"q{100 * level:g}": float(x) for level, x in zip(levels, np.quantile(values, levels), strict=True)}
    return {"mean": float(values.mean()), "std": float(values.std()), **quantiles}
