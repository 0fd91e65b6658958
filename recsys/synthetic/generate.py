"""Writes generated files in the format of the Toss data set, block by block, with the true click probabilities."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from pydantic import Field

from recsys.config import StrictModel
from recsys.errors import InputError
from recsys.evaluation.logits import Logits, logit_of
from recsys.evaluation.metrics import Metrics, measure
from recsys.synthetic import columns
from recsys.synthetic.impressions import ImpressionGenerator, fit_click_model
from recsys.system.files import begin_folder, check_free, finish_folder, is_done, read_json, write_json
from recsys.system.progress import console, progress_line

ROW_GROUP = 16_384
BLOCK_ROWS = 1024
"""Default number of rows generated at once: half a million events fit a CPU's cache, more are slower."""
MAX_BLOCK_ROWS = 131_072
"""The text of a block's sequences must not exceed the 2 GiB limit of Arrow strings."""
CONFIG_FILE = "config.json"
_VERSION = 2
"""Version of the generator: another version generates other rows from a config, and its folders are not reused."""


class GeneratorConfig(StrictModel):
    """Settings of a generated data set."""

    n_rows: int = Field(default=200_000, ge=1)
    n_test_rows: int | None = Field(default=None, ge=1)
    """null: one test row per seven training rows."""
    seed: int = Field(default=0, ge=0)
    seq_strength: float = Field(default=0.1, ge=0, le=5)
    """Weight of the match between an ad and the last events, in logits: 0.1 is realistic, 0.3 is a planted effect."""
    user_id: bool = Field(default=False, exclude_if=lambda value: not value)
    """Adds the column `user_id`, which the real data does not have; the other columns stay the same."""

    @property
    def test_rows(self) -> int:
        """Number of rows of the test file."""
        return self.n_test_rows or max(1, self.n_rows // 7)

    @property
    def fingerprint(self) -> str:
        """Hash of the settings that determine the rows."""
        return hashlib.sha256(json.dumps(self.settings()).encode()).hexdigest()

    def settings(self) -> dict[str, Any]:
        """Returns all settings that determine the rows, as JSON values."""
        return {"version": _VERSION, **self.model_dump(mode="json")}

    def impression_generator(self, split: Literal["train", "test"]) -> ImpressionGenerator:
        """Creates the generator of the impressions of a split."""
        is_test = split == "test"
        return ImpressionGenerator(self.seed, self.test_rows if is_test else self.n_rows, is_test, self.n_rows)


def generate(config: GeneratorConfig, folder: Path, block_rows: int = BLOCK_ROWS) -> Path:
    """Writes train.parquet, test.parquet, sample_submission.csv and truth.parquet.

    The most recent event of a row is the last token of its seq.

    truth.parquet contains split, row_in_split, p and the label `clicked`, also of test rows. Its metadata contains the
    metrics of p, which a model can exceed only by chance.

    Args:
        config: settings of the data; the same config always gives the same bytes.
        folder: the output folder; a finished folder of the same config is left unchanged.
        block_rows: rows generated at once; affects memory, not content.

    Raises:
        InputError: when the folder contains other data, or block_rows is out of range.
    """
    settings = config.settings()
    if is_done(folder) and (folder / CONFIG_FILE).is_file() and read_json(folder / CONFIG_FILE) == settings:
        console.print(f"{folder} already contains this data")
        return folder
    if not 1 <= block_rows <= MAX_BLOCK_ROWS:
        raise InputError(f"block_rows must be 1 to {MAX_BLOCK_ROWS}, got {block_rows}")
    check_free(folder, "generated data set")
    partial = begin_folder(folder)
    truth = {
        "train": _write_split(config, partial / "train.parquet", "train", block_rows),
        "test": _write_split(config, partial / "test.parquet", "test", block_rows),
    }
    _write_truth(partial / "truth.parquet", config, truth)
    ids = pa.array([f"TEST_{row:07d}" for row in range(config.test_rows)])
    sample = pa.table({"ID": ids, columns.LABEL: pa.array(np.full(config.test_rows, 0.5))})
    with (partial / "sample_submission.csv").open("wb") as file:
        file.write(f"ID,{columns.LABEL}\n".encode())  # Arrow would quote the header
        pa_csv.write_csv(sample, file, pa_csv.WriteOptions(include_header=False, quoting_style="none"))
    write_json(partial / CONFIG_FILE, settings)
    finish_folder(folder)
    return folder


def _write_split(
    config: GeneratorConfig, path: Path, split: Literal["train", "test"], block_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Writes one file; returns [n] true probabilities and [n] labels."""
    is_test = split == "test"
    n_rows = config.test_rows if is_test else config.n_rows
    maker = config.impression_generator(split)
    model = fit_click_model(maker, config.seq_strength, columns.TEST_BASE_RATE if is_test else columns.BASE_RATE)
    probabilities, labels = [], []
    pending: list[pa.Table] = []
    writer = None
    with progress_line(f"generating {split}", n_rows) as line:
        for start in range(0, n_rows, block_rows):
            positions = np.arange(start, min(start + block_rows, n_rows))
            impressions = maker.impressions(positions)
            events = maker.events(impressions)
            p = model.probability(impressions, maker.match(impressions, events))
            label = (maker.label_uniform(impressions) < p).astype(np.int32)
            table = maker.table(impressions, events)
            if config.user_id:
                table = table.append_column(columns.USER_ID, pa.array(impressions.users.number).cast(pa.string()))
            if is_test:
                table = table.add_column(0, "ID", pa.array([f"TEST_{row:07d}" for row in positions]))
            else:
                table = table.append_column(columns.LABEL, pa.array(label))
            probabilities.append(p)
            labels.append(label)
            pending.append(table)
            is_last = positions[-1] == n_rows - 1
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            pending = _write_groups(writer, pending, is_last)
            line.advance(len(positions))
    assert writer is not None
    writer.close()
    return np.concatenate(probabilities), np.concatenate(labels)


def _write_groups(writer: pq.ParquetWriter, pending: list[pa.Table], is_last: bool) -> list[pa.Table]:
    """Writes row groups of a fixed size, independent of the block size; returns the rows that are left."""
    table = pa.concat_tables(pending)
    while table.num_rows >= ROW_GROUP or (is_last and table.num_rows):
        writer.write_table(table.slice(0, ROW_GROUP).combine_chunks(), row_group_size=ROW_GROUP)
        table = table.slice(ROW_GROUP)
    return [table]


def bayes_metrics(p: np.ndarray, label: np.ndarray) -> Metrics:
    """Computes the metrics of the true probabilities, with the class weight of the labels."""
    natural = logit_of(p)
    rate = label.mean()
    weight = (1 - rate) / rate if 0 < rate < 1 else 1.0
    return measure(label, Logits.of_one_fit(natural, float(np.log(weight))))


def _write_truth(path: Path, config: GeneratorConfig, truth: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    tables = [
        pa.table(
            {
                "split": pa.repeat(split, len(p)),
                "row_in_split": np.arange(len(p)),
                "p": p,
                columns.LABEL: label.astype(np.int8),
            }
        )
        for split, (p, label) in truth.items()
    ]
    bayes = {split: bayes_metrics(p, label).model_dump() for split, (p, label) in truth.items()}
    metadata = {"bayes": json.dumps(bayes), "config": config.model_dump_json()}
    pq.write_table(pa.concat_tables(tables).replace_schema_metadata(metadata), path, compression="zstd")


def read_bayes(folder: Path) -> dict[str, Metrics]:
    """Reads the metrics of the true probabilities by split: the best possible ones in expectation."""
    metadata = pq.read_schema(folder / "truth.parquet").metadata
    return {split: Metrics(**figures) for split, figures in json.loads(metadata[b"bayes"]).items()}
