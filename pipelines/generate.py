"""Generates click data in the format of the Toss data, with known click probabilities.

python -m pipelines.generate --rows 200000 --out data/toss
"""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.common.cli import run_pipeline
from recsys.errors import InputError
from recsys.evaluation.shown import format_metrics, shown_metrics, titles
from recsys.report.tables import TextRow, text_table
from recsys.synthetic import GeneratorConfig, generate, read_bayes
from recsys.synthetic.generate import BLOCK_ROWS, MAX_BLOCK_ROWS
from recsys.system.progress import console


def generate_command(
    out: Annotated[Path, typer.Option(help="Folder to write the files to.")],
    rows: Annotated[int, typer.Option(min=1, help="Number of training rows.")] = 200_000,
    test_rows: Annotated[
        int | None, typer.Option(min=1, help="Number of test rows. Default: a seventh of the training rows.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed; the same seed gives identical files.")] = 0,
    seq_strength: Annotated[
        float,
        typer.Option(
            min=0,
            max=5,
            help="How strongly clicks depend on the match of the ad and the last events: 0.1 is like the real data, "
            "0.3 a strong, planted effect.",
        ),
    ] = 0.1,
    user_id: Annotated[
        bool, typer.Option("--user-id", help="Add a column user_id, which the real data does not have.")
    ] = False,
    block_rows: Annotated[
        int, typer.Option(min=1, max=MAX_BLOCK_ROWS, help="Rows generated at a time; it affects memory use only.")
    ] = BLOCK_ROWS,
) -> None:
    """Generate data in the format of the Toss ad-click competition.

    Writes train.parquet, test.parquet (without labels), sample_submission.csv
    and truth.parquet, which holds the true click probability and the label of
    each row.
    """
    if rows < 100:
        raise InputError(f"--rows must be at least 100, so that some rows are clicks, got {rows}")
    config = GeneratorConfig(n_rows=rows, n_test_rows=test_rows, seed=seed, seq_strength=seq_strength, user_id=user_id)
    generate(config, out, block_rows)
    shown, table_rows = shown_metrics(("toss_score",)), []
    for split, best in read_bayes(out).items():
        rate = f"{100 * best.n_positive / best.n_rows:.3f}"
        counts = (f"{best.n_rows:,}", f"{best.n_positive:,}", rate)
        table_rows.append(TextRow((split, *counts, *format_metrics(best, shown))))
    columns = ("split", "rows", "clicks", "clicks %", *titles(shown))
    console.print(text_table(f"best possible metrics on {out}", columns, table_rows))


if __name__ == "__main__":
    run_pipeline(generate_command)
