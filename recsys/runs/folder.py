"""The run folder: an experiment's config, metrics, weights, logs and predictions, whole or plainly unfinished."""

import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import yaml

from recsys.errors import InputError
from recsys.evaluation.logits import probability
from recsys.system.files import (
    begin_folder,
    check_free,
    give_final_name,
    is_done,
    partial_folder,
    read_json,
    write_json,
)
from recsys.system.seal import PARTS, seal, verify

CONFIG_FILE, METRICS_FILE, OOF_FILE, PREDS_STATS_FILE = "config.yaml", "metrics.json", "oof.csv", "preds_stats.json"
CALIBRATION_FILE, STACK_FILE = "calibration.json", "stack.json"
PLAN_STATE_FILE = "plan.json"
"""Of a finished plan: names its final run folder."""


@dataclass(frozen=True)
class Part:
    """The predictions of one fitted model on rows it has not seen: a fold, the holdout, a given split."""

    name: str
    rows: np.ndarray
    """[n] int64 row numbers in the prepared data set."""
    label: np.ndarray
    """[n] float32."""
    logit: np.ndarray
    """[n] float32, as the model gives it."""
    natural_logit: np.ndarray
    """[n] float64 logits of p."""
    balanced_logit: np.ndarray
    """[n] float64 logits of q."""


def join(parts: Sequence[Part], name: str = "overall") -> Part:
    """Parts end to end; of none, no rows."""
    if not parts:
        none = np.zeros(0)
        return Part(name, none.astype(np.int64), none.astype(np.float32), none.astype(np.float32), none, none)
    fields = ("rows", "label", "logit", "natural_logit", "balanced_logit")
    return Part(name=name, **{field: np.concatenate([getattr(part, field) for part in parts]) for field in fields})


class RunFolder:
    """A folder of one experiment, written beside its final name until it is whole.

    A killed run leaves `OUT.partial`: the same command finds the parts that were finished there and goes on.

    Args:
        folder: the final name.
        config: the resolved config; saved before anything else.
        is_writer: whether this process writes; the others only look where things are.

    Raises:
        InputError: when the folder holds something else, or an unfinished run of another config.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], is_writer: bool = True) -> None:
        self.folder, self._config = folder, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        self._partial = partial_folder(folder)
        if is_done(folder):
            if self._saved_config(folder) != self._config:
                raise InputError(f"{folder} holds a finished run of another config: choose another --out, or remove it")
            return
        if not is_writer:
            return
        check_free(folder, "run")
        begin_folder(folder, is_fresh=False)
        if (self._partial / CONFIG_FILE).is_file():
            if self._saved_config(self._partial) != self._config:
                raise InputError(
                    f"{self._partial} holds an unfinished run of another config: choose another --out, or remove it"
                )
            if is_done(self._partial):
                self._give_name()
            return
        (self._partial / PARTS).mkdir(exist_ok=True)
        (self._partial / "ckpt").mkdir(exist_ok=True)
        temporary = self._partial / f"{CONFIG_FILE}.tmp"
        temporary.write_text(self._config, encoding="utf-8")
        temporary.rename(self._partial / CONFIG_FILE)

    @staticmethod
    def _saved_config(folder: Path) -> str:
        return (folder / CONFIG_FILE).read_text(encoding="utf-8")

    @property
    def is_done(self) -> bool:
        """Whether the run was finished before."""
        return is_done(self.folder)

    def metrics(self) -> dict[str, Any]:
        """A finished run's metrics.json."""
        verify(self.folder, METRICS_FILE)
        return read_json(self.folder / METRICS_FILE)

    def tensorboard(self, fit: str) -> Path:
        """Where the TensorBoard log of one fitted model goes."""
        return self._partial / "tensorboard" / fit

    def weights(self, fit: str) -> Path:
        """Where the weights of one fitted model go."""
        return self._partial / "ckpt" / fit

    def file(self, name: str) -> Path:
        """Where a further file of an unfinished run goes."""
        return self._partial / name

    def has_fit(self, fit: str) -> bool:
        """Whether a model was fitted, and its predictions kept, by an earlier start of this run."""
        return (self._partial / PARTS / f"{fit}.json").is_file()

    def save_fit(self, fit: str, parts: list[Part], report: Any) -> None:
        """Keeps a fitted model's predictions; the report comes last and marks the fit as whole."""
        for part in parts:
            arrays = {key: value for key, value in asdict(part).items() if key != "name"}
            np.savez(self._partial / PARTS / f"{fit}.{part.name}.npz", **arrays)
        write_json(self._partial / PARTS / f"{fit}.json", {"parts": [part.name for part in parts], "report": report})

    def load_fit(self, fit: str) -> tuple[list[Part], dict[str, Any]]:
        """The predictions and the report of a fitted model."""
        saved = read_json(self._partial / PARTS / f"{fit}.json")
        parts = []
        for name in saved["parts"]:
            path = self._partial / PARTS / f"{fit}.{name}.npz"
            try:
                with np.load(path, allow_pickle=False) as arrays:
                    parts.append(Part(name=name, **{key: arrays[key] for key in arrays.files}))
            except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                mark = path.with_name(f"{fit}.json")
                raise InputError(f"{path} is damaged ({error}): remove {mark}, and {fit} is fitted again") from error
        return parts, saved["report"]

    def finish(self, metrics: dict[str, Any], parts: list[Part], row_ids: pa.Array) -> None:
        """Writes what speaks of the whole run and gives the folder its final name.

        Args:
            metrics: metrics.json.
            parts: the reported predictions.
            row_ids: their rows' ids, part after part.
        """
        write_oof(self._partial / OOF_FILE, parts, row_ids)
        write_json(self._partial / PREDS_STATS_FILE, {part.name: prediction_stats(part) for part in parts})
        self.close(metrics)

    def close(self, metrics: dict[str, Any]) -> None:
        """Writes metrics.json and gives the folder its final name."""
        write_json(self._partial / METRICS_FILE, metrics)
        seal(self._partial)  # before the parts go: a run that is killed between the two has all it needs
        self._give_name()

    def _give_name(self) -> None:
        shutil.rmtree(self._partial / PARTS, ignore_errors=True)
        give_final_name(self.folder)


def write_oof(path: Path, parts: list[Part], row_ids: pa.Array) -> None:
    """oof.csv: row_id, fold, label, logit (as the model gives it), p (at the natural base rate)."""
    whole = join(parts)
    table = pa.table(
        {
            "row_id": row_ids,
            "fold": pa.concat_arrays([pa.array([], pa.string()), *(pa.repeat(p.name, len(p.rows)) for p in parts)]),
            "label": whole.label.astype(np.int8),
            "logit": whole.logit,
            "p": probability(whole.natural_logit),
        }
    )
    pa_csv.write_csv(table, path, pa_csv.WriteOptions(quoting_style="needed", quoting_header="none"))


def prediction_stats(part: Part) -> dict[str, dict[str, float]]:
    """The distribution of predictions at both scales, for the distribution gate."""
    scales = {"p": probability(part.natural_logit), "q": probability(part.balanced_logit), "logit": part.logit}
    return {scale: _distribution(values.astype(np.float64)) for scale, values in scales.items()}


def _distribution(values: np.ndarray) -> dict[str, float]:
    levels = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
    quantiles = {f"q{100 * level:g}": float(x) for level, x in zip(levels, np.quantile(values, levels), strict=True)}
    return {"mean": float(values.mean()), "std": float(values.std()), **quantiles}
