"""Fits the generator's own form to generated rows: the bound of what any model can learn from that many rows.

python -m benchmarks.bound
python -m benchmarks.bound --rows 200000 --rows 500000 --run runs/a --run runs/b --baseline runs/gbdt
"""

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.compute as pc
import typer

from benchmarks.bound.effects import Effects, fit_effects
from benchmarks.bound.form import GeneratedRows, generated_rows
from pipelines.common.cli import run_pipeline
from pipelines.common.output import check_file
from ranking.scoring import find_run_data
from recsys.config import Values, validate
from recsys.data.layout import GENERATOR_FILE
from recsys.errors import InputError
from recsys.evaluation.logits import Logits, log_pos_weight_of, logit_of
from recsys.evaluation.metrics import MetricName, Metrics, measure
from recsys.evaluation.shown import TITLES, format_metric
from recsys.report.tables import TextRow, text_table
from recsys.runs.predictions import RunPredictions, read_predictions
from recsys.synthetic import GeneratorConfig
from recsys.system.files import read_json, write_json
from recsys.system.memory import peak_rss_gib
from recsys.system.progress import console, status_line

N_FOLDS = 5
_SHOWN: tuple[MetricName, ...] = ("logloss", "roc_auc", "ap", "wll", "toss_score")
_CONSTANT, _BOUND, _TRUTH = "constant rate", "bound: the generator's form, fitted", "true probabilities"
_FULL = "bound, fitted to all training rows"


def bound(
    rows: Annotated[
        list[int] | None, typer.Option(min=1000, help="Training rows; repeatable. Default: 200,000, or those of --run.")
    ] = None,
    run: Annotated[
        list[Path] | None, typer.Option(help="Finished run on generated rows, evaluated out-of-fold; repeatable.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="Run from which the share of the way is measured. Default: the constant rate.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the generator.")] = 0,
    n_test_rows: Annotated[
        int | None, typer.Option(min=1, help="Test rows. Default: one for seven training rows.")
    ] = None,
    seq_strength: Annotated[float, typer.Option(min=0, max=5, help="The generator's seq_strength.")] = 0.1,
    out: Annotated[Path | None, typer.Option(help="JSON file to write the figures to.")] = None,
) -> Values:
    """Measure how much can be learned from generated rows.

    Fits the form that clicks are drawn from, with free weights and shrunken
    effects of ids and pairs, to the training rows of each fold, and scores the
    others and the test rows. Runs get their share of the way from the baseline
    to this bound, on their own rows.
    """
    if out is not None:
        check_file(out)
    paths = [*([baseline] if baseline else []), *(run or [])]
    configs = {path: config_of(path) for path in paths}
    sizes = rows or sorted({config.n_rows for config in configs.values()}) or [200_000]
    asked = [
        GeneratorConfig(n_rows=size, n_test_rows=n_test_rows, seed=seed, seq_strength=seq_strength) for size in sizes
    ]
    for path, config in configs.items():
        if training_rows(config) not in map(training_rows, asked):
            raise InputError(
                f"{path} was trained on {config.n_rows:,} generated rows with seed {config.seed} and seq_strength "
                f"{config.seq_strength}: pass these as --rows, --seed and --seq-strength"
            )
    values: Values = {}
    for config in asked:
        of_size = [path for path in paths if training_rows(configs[path]) == training_rows(config)]
        values[str(config.n_rows)] = measure_bound(config, of_size, baseline if baseline in of_size else None)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, values)
    return values


def config_of(path: Path) -> GeneratorConfig:
    """The config of the generated rows that a run was trained on.

    Raises:
        InputError: if the run is not finished, or its data was not generated.
    """
    file = find_run_data(path).folder / GENERATOR_FILE
    if not file.is_file():
        raise InputError(f"{path} was not trained on generated rows: {file} is missing")
    return validate(GeneratorConfig, read_json(file), str(file))


def training_rows(config: GeneratorConfig) -> tuple[int, int, float]:
    """The settings that the training rows and their labels depend on."""
    return config.n_rows, config.seed, config.seq_strength


def measure_bound(config: GeneratorConfig, runs: list[Path], baseline: Path | None) -> Values:
    """Prints and returns the figures of one number of rows."""
    began = time.perf_counter()
    train, test = generated_rows(config, "train"), generated_rows(config, "test")
    drawn = time.perf_counter() - began
    fold = np.random.default_rng(config.seed).permutation(config.n_rows) % N_FOLDS
    natural = out_of_fold(train, fold)
    full = fit(train, np.arange(config.n_rows), "all rows")
    seconds = time.perf_counter() - began
    log_weight = log_pos_weight_of(train.label)
    models = {_CONSTANT: np.full(config.n_rows, -log_weight), _BOUND: natural, _TRUTH: logit_of(train.p)}
    overall = {name: measure(train.label, Logits.of_one_fit(logit, log_weight)) for name, logit in models.items()}
    print_metrics(f"{config.n_rows:,} training rows, out-of-fold", overall, _CONSTANT)
    at_test = {
        _CONSTANT: np.full(config.test_rows, -log_weight),
        _FULL: full.logit(test.design, np.arange(config.test_rows)),
        _TRUTH: logit_of(test.p),
    }
    on_test = {name: measure(test.label, Logits.of_one_fit(logit, log_weight)) for name, logit in at_test.items()}
    print_metrics(f"{config.test_rows:,} test rows", on_test, _CONSTANT)
    compared = {path.name: compare_run(path, baseline, train, models) for path in runs if path != baseline}
    sd = ", ".join(f"{name} {value:.3f}" for name, value in full.sd.items())
    console.print(f"estimated standard deviations of effects, in logits: {sd}")
    console.print(f"rows drawn in {drawn:,.0f} s, all in {seconds:,.0f} s; peak memory {peak_rss_gib():.2f} GiB")
    return {
        "out_of_fold": {name: metrics.model_dump() for name, metrics in overall.items()},
        "test": {name: metrics.model_dump() for name, metrics in on_test.items()},
        "runs": compared,
        "effect_sd": full.sd,
        "seconds": seconds,
        "peak_rss_gib": peak_rss_gib(),
    }


def out_of_fold(train: GeneratedRows, fold: np.ndarray) -> np.ndarray:
    """[n] natural logits of the rows of each fold, by effects that are fitted to all other rows.

    Args:
        train: the rows.
        fold: [n] 0 .. K - 1.
    """
    natural = np.empty(len(fold))
    for number in range(int(fold.max()) + 1):
        held_out = np.flatnonzero(fold == number)
        effects = fit(train, np.flatnonzero(fold != number), f"fold {number}")
        natural[held_out] = effects.logit(train.design, held_out)
    return natural


def fit(train: GeneratedRows, rows: np.ndarray, name: str) -> Effects:
    """Fits the effects to some rows, with a status line."""
    with status_line(f"fitting {name}: {len(rows):,} rows"):
        return fit_effects(train.design, train.label, rows)


def compare_run(path: Path, baseline: Path | None, train: GeneratedRows, models: dict[str, np.ndarray]) -> Values:
    """Prints and returns the metrics of a run beside those of the bound on the same rows.

    Raises:
        InputError: if the rows of the run, or their labels, are not those of the generator.
    """
    run = read_predictions(path)
    rows = rows_of(run, train)
    log_weight = run.logits.log_pos_weight
    logits = {name: Logits(natural[rows], log_weight) for name, natural in models.items()}
    from_name = _CONSTANT
    if baseline is not None:
        other = read_predictions(baseline)
        of_row = np.full(len(train.label), np.nan)
        of_row[rows_of(other, train)] = other.logits.natural
        if np.isnan(of_row[rows]).any():
            raise InputError(
                f"--baseline {baseline} has no prediction for some rows of {path}: pass runs on the same rows"
            )
        from_name = f"{baseline.name} (baseline)"
        logits[from_name] = Logits(of_row[rows], log_weight)
    logits[path.name] = run.logits
    order = [_CONSTANT, *([from_name] if baseline else []), path.name, _BOUND, _TRUTH]
    metrics = {name: measure(run.label, logits[name]) for name in order}
    print_metrics(f"{path.name}: {len(rows):,} rows", metrics, from_name)
    return {
        name: figures.model_dump() | {"share": shares(figures, metrics, from_name)} for name, figures in metrics.items()
    }


def rows_of(run: RunPredictions, train: GeneratedRows) -> np.ndarray:
    """[n] row numbers of a run's rows.

    Raises:
        InputError: if they are no training rows of the generator, or have other labels.
    """
    rows = pc.cast(run.row_id, "int64", safe=False).to_numpy() if is_numbers(run) else np.array([-1])
    is_ours = len(rows) and rows.min() >= 0 and rows.max() < len(train.label)
    if not is_ours or not np.array_equal(train.label[rows], run.label):
        raise InputError(
            f"{run.name}: its rows are not the training rows of the generator: pass a run with folds or days"
        )
    return rows


def is_numbers(run: RunPredictions) -> bool:
    """Whether the row ids of a run are row numbers."""
    return bool(pc.all(pc.match_substring_regex(run.row_id, r"^\d{1,18}$")).as_py())


def shares(figures: Metrics, metrics: dict[str, Metrics], start: str) -> dict[str, float]:
    """The share of the way from one model to the bound that another one has come, by metric."""
    found: dict[str, float] = {}
    for name in _SHOWN:
        first, value, last = metrics[start].value(name), figures.value(name), metrics[_end(metrics)].value(name)
        if first is not None and value is not None and last is not None and last != first:
            found[name] = (value - first) / (last - first)
    return found


def _end(metrics: dict[str, Metrics]) -> str:
    return _BOUND if _BOUND in metrics else _FULL


def print_metrics(title: str, metrics: dict[str, Metrics], start: str) -> None:
    """Prints the metrics of models, and their share of the way from one of them to the bound."""
    rows = []
    for name, figures in metrics.items():
        share = shares(figures, metrics, start)
        cells = [format_metric(figures.value(metric)) for metric in _SHOWN]
        cells += [f"{round(share[metric], 4) + 0.0:.0%}" if metric in share else "" for metric in ("ap", "logloss")]
        rows.append(TextRow((name, *cells), "bold" if name == _end(metrics) else None))
    columns = ("", *(TITLES[name] for name in _SHOWN), "way to the bound: AP", "log loss")
    console.print(text_table(title, columns, rows))


if __name__ == "__main__":
    run_pipeline(bound)
