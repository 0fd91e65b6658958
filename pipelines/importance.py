"""Measures what a finished run loses without each feature: permutation importance on held-out rows.

python -m pipelines.importance --run runs/a
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

from pipelines.common.cli import ModelClass, run_pipeline
from pipelines.common.output import check_file
from pipelines.parts.comparison import compare_models
from pipelines.parts.run_data import ScoringRun
from ranking.insight.feature_sets import FeatureSet, feature_groups, single_features
from ranking.insight.permutation import HeldOutScorer, held_out_rows
from ranking.own_model import name_model
from recsys.evaluation.comparison import COMPARED, By, ComparedMetric
from recsys.evaluation.importance import IMPORTANCE_FILE, FeatureImportance, Importances, losses_of
from recsys.evaluation.shown import TITLES
from recsys.report.insight_plots import plot_importance
from recsys.report.tables import TextRow, text_table
from recsys.runs.clusters import clusters_of
from recsys.system.files import write_json
from recsys.system.progress import console, progress_line


def importance(
    run: Annotated[Path, typer.Option(help="Folder of a finished run, ensemble or plan.")],
    by: Annotated[
        Literal["feature", "group"] | None,
        typer.Option(
            help="Permute single features, or groups of the schema: towers, patterns, crosses, sequences, "
            "encodings. Default: both."
        ),
    ] = None,
    metric: Annotated[ComparedMetric, typer.Option(help="The metric whose loss sorts features.")] = "logloss",
    n_rows: Annotated[
        int, typer.Option(min=1, help="Largest number of held-out rows; of more, a random sample is taken.")
    ] = 200_000,
    repeats: Annotated[int, typer.Option(min=1, help="Number of permutations that are averaged.")] = 1,
    draw: Annotated[
        By | None,
        typer.Option(help="What a bootstrap sample draws. Default: user if the data names its users, otherwise row."),
    ] = None,
    replicates: Annotated[int, typer.Option(min=100, help="Number of bootstrap samples.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample, permutations and bootstrap.")] = 0,
    data: Annotated[
        Path | None, typer.Option(help="Prepared data set of the run. Default: the folder recorded in the run.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help=f"JSON file to write, and its plot. Default: {IMPORTANCE_FILE} in the run folder."),
    ] = None,
    model_class: ModelClass = None,
) -> Path:
    """Measure what each feature is worth to a run.

    A feature's values are exchanged between the held-out rows of each fold,
    which the fold's own model scores again. Prints the loss of AP and log loss
    with 95 % intervals. A feature that others can replace loses little.
    """
    for path in model_class or ():
        name_model(path)
    scoring = ScoringRun.open(run, data)
    out = out or scoring.folder / IMPORTANCE_FILE
    check_file(out)
    schema, config = scoring.dataset.manifest.schema_, scoring.dataset.manifest.schema_config
    scorer = scoring.load_scorer(is_calibrated=False)
    splits = scorer.splits
    folds = held_out_rows(scoring.dataset, splits, n_rows, seed)
    held_out = HeldOutScorer(scorer, scoring.dataset, folds, seed)
    features = single_features(schema, scorer.categorical, scorer.reads_retrieval_score)
    groups = feature_groups(schema, config, features) if by != "feature" else []
    features = features if by != "group" else []
    n_scored, name = sum(len(fold.numbers) for fold in folds), scoring.folder.name
    with progress_line(f"scoring {name}", n_scored) as line:
        rows = held_out.predictions(name, held_out.logits(on_rows=line.advance))
    drawn, _ = clusters_of(rows, draw)

    measured: dict[FeatureSet, FeatureImportance] = {}
    for number, feature_set in enumerate((*features, *groups), 1):
        title = f"{number}/{len(features) + len(groups)} {feature_set.name}"
        with progress_line(title, n_scored * repeats) as line:
            logits = [held_out.logits(feature_set, repeat, line.advance) for repeat in range(repeats)]
        comparison = compare_models(rows, rows.logits, logits, f"bootstrap {title}", replicates, seed, draw)
        measured[feature_set] = FeatureImportance(
            name=feature_set.name,
            features=feature_set.members,
            is_read=any(not np.array_equal(permuted.natural, rows.logits.natural) for permuted in logits),
            losses=losses_of(comparison),
        )

    def in_order(sets: Sequence[FeatureSet]) -> tuple[FeatureImportance, ...]:
        return tuple(sorted((measured[one] for one in sets), key=lambda one: -one.losses[metric].loss))

    figures = rows.predictions.measure()
    result = Importances(
        run=str(scoring.folder),
        metric=metric,
        n_rows=len(rows.label),
        n_positive=int(rows.label.sum()),
        by=drawn,
        n_clusters=comparison.n_clusters,
        splits=splits,
        seed=seed,
        repeats=repeats,
        metrics={name: figures.value(name) for name in COMPARED},
        features=in_order(features),
        groups=in_order(groups),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    plot_importance(result, out.with_suffix(".png"))
    write_json(out, result.model_dump(mode="json"))
    print_importances(result)
    console.print(f"{out}, {out.with_suffix('.png')}")
    return out


def print_importances(result: Importances) -> None:
    """Prints a table of the features and one of the groups; bold if the interval is above zero, dim if not read."""
    shown: tuple[ComparedMetric, ...] = tuple(dict.fromkeys((result.metric, "logloss", "ap")))
    columns = [text for name in shown for text in (f"loss of {TITLES[name]}", f"95 % interval, by {result.by}")]
    for title, listed in (("feature", result.features), ("group", result.groups)):
        rows = []
        for one in listed:
            cells = [text for name in shown for text in one.losses[name].cells()] if one.is_read else ["not read"]
            style = None if one.is_read else "dim"
            if one.losses[result.metric].low > 0:
                style = "bold"
            rows.append(TextRow([one.name, *cells, *[""] * (len(columns) - len(cells))], style))
        if rows:
            heading = f"{result.run}: what it loses without each {title}, {result.n_rows:,} held-out rows"
            console.print(text_table(heading, (title, *columns), rows))


if __name__ == "__main__":
    run_pipeline(importance)
