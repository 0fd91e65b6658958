"""Generates Toss-shaped click data with known truth.

python -m pipelines.generate --rows 200000 --out data/toss
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pipelines.common.cli import run_pipeline
from recsys.errors import InputError
from recsys.synthetic import GeneratorConfig, generate, read_bayes
from recsys.synthetic.generate import BLOCK_ROWS, MOST_BLOCK_ROWS
from recsys.system.progress import console


def generate_command(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    rows: Annotated[int, typer.Option(min=1, help="Training rows.")] = 200_000,
    test_rows: Annotated[
        int | None, typer.Option(min=1, help="Test rows; a seventh of the training rows if left out.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    seq_strength: Annotated[
        float, typer.Option(min=0, max=5, help="Weight of the match of ad and last events: .1 real-like, .3 planted.")
    ] = 0.1,
    block_rows: Annotated[
        int, typer.Option(min=1, max=MOST_BLOCK_ROWS, help="Rows made at once: memory, not content.")
    ] = BLOCK_ROWS,
) -> None:
    """Generate data of the shape of the Toss ad-click competition.

    Writes train.parquet, test.parquet (without labels), sample_submission.csv and truth.parquet, which holds every
    row's true click probability and label.
    """
    if rows < 100:
        raise InputError(f"--rows {rows}: at least 100 are needed for a few clicks to be among them")
    config = GeneratorConfig(n_rows=rows, n_test_rows=test_rows, seed=seed, seq_strength=seq_strength)
    generate(config, out, block_rows)
    table = Table(title=f"best possible scores on {out}", title_justify="left")
    for column in ("split", "rows", "clicks", "rate %", "AP", "ROC-AUC", "WLL", "toss_score"):
        table.add_column(column, justify="right")
    for split, best in read_bayes(out).items():
        figures = [
            f"{value:.5f}" if value is not None else "-" for value in (best.ap, best.roc_auc, best.wll, best.toss_score)
        ]
        rate = f"{100 * best.n_positive / best.n_rows:.3f}"
        table.add_row(split, f"{best.n_rows:,}", f"{best.n_positive:,}", rate, *figures)
    console.print(table)


if __name__ == "__main__":
    run_pipeline(generate_command)
