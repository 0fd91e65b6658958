"""Stacks finished runs into one model, cross-fitted over their folds.

python -m pipelines.ensemble --runs runs/a runs/b runs/c --out runs/ensemble
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from pydantic import BaseModel
from rich.table import Table

from pipelines.common.cli import run_pipeline
from pipelines.compare import print_differences
from recsys.errors import InputError
from recsys.evaluation.comparison import Difference, Scores, paired_bootstrap
from recsys.evaluation.logits import LogitLink
from recsys.evaluation.metrics import LOWER_IS_BETTER, MetricName, Metrics
from recsys.evaluation.stacking import STACK_METHODS, Members, StackMethod
from recsys.runs.calibration import calibrate_parts, print_calibration
from recsys.runs.folder import OOF_FILE, STACK_FILE, Part, RunFolder
from recsys.runs.predictions import Predictions, join_predictions, read_predictions
from recsys.runs.summary import measure_part, spread
from recsys.system.files import write_json
from recsys.system.progress import console, progress_line

_SHOWN: tuple[MetricName, ...] = ("ap", "wll", "roc_auc", "logloss", "ece", "score")


def ensemble(
    more: Annotated[list[Path] | None, typer.Argument(metavar="RUN", help="Finished runs.")] = None,
    runs: Annotated[list[Path] | None, typer.Option(help="Finished runs; more may follow, as --runs A B C.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. Left out: a name under runs/.")] = None,
    method: Annotated[
        StackMethod | None, typer.Option(help="How members are joined. Left out: what scores highest by --metric.")
    ] = None,
    metric: Annotated[MetricName, typer.Option(help="What methods are chosen by.")] = "score",
    replicates: Annotated[int, typer.Option(min=100, help="Bootstrap samples of the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the samples.")] = 0,
) -> None:
    """Stack finished runs.

    Every method is fitted to all folds but one and judged on that one, in turn. Runs of a single part, such as a test
    split, leave nothing to fit on: theirs is the mean of logits, which needs no fit.
    """
    paths = [*(runs or []), *(more or [])]
    if len(paths) < 2:
        raise InputError("an ensemble needs two runs or more: --runs runs/a runs/b")
    if len({path.name for path in paths}) < len(paths):
        raise InputError("two of the runs have the same name: rename a folder, so that the members can be told apart")
    run = build_ensemble(paths, out, method, metric, replicates, seed)
    print_ensemble(run.metrics())
    print_calibration(run.metrics())
    console.print(f"run folder: {run.folder}")


def build_ensemble(
    paths: list[Path],
    out: Path | None,
    method: StackMethod | None = None,
    metric: MetricName = "score",
    replicates: int = 1000,
    seed: int = 0,
) -> RunFolder:
    """Stacks finished runs into a run folder, if that was not done before."""
    members = join_predictions([read_predictions(path) for path in paths])
    config = {
        "model": {"name": "ensemble", "method": method, "metric": metric},
        "members": {path.name: fingerprint(path) for path in paths},
        "bootstrap": {"replicates": replicates, "seed": seed},
    }
    folder = out or Path("runs") / f"ensemble-{hashlib.sha256(json.dumps(config).encode()).hexdigest()[:8]}"
    run = RunFolder(folder, config)
    if not run.is_done:
        stack_members(run, paths, members, method, metric, replicates, seed)
    return run


def stack_members(
    run: RunFolder,
    folders: list[Path],
    runs: list[Predictions],
    method: StackMethod | None,
    metric: MetricName,
    replicates: int,
    seed: int,
) -> None:
    """Fits, judges and keeps an ensemble."""
    first, members = runs[0], members_of(runs)
    names, natural_NM, balance = members.names, members.logits, members.balance
    folds = np.unique(first.fold)
    if len(folds) == 1 and method not in (None, "logit_mean"):
        raise InputError(f"--method {method} is fitted on other folds, and these runs have only {str(folds[0])!r}")
    tried: tuple[StackMethod, ...] = (method,) if method else STACK_METHODS if len(folds) > 1 else ("logit_mean",)

    by_member = {name: members.measure(column) for name, column in zip(names, natural_NM.T, strict=True)}
    with progress_line("stacking fits", len(tried) + len(names), unit="fits") as line:
        logits, by_method, without = {}, {}, {}
        for kind in tried:
            logits[kind] = members.cross_fit(kind)
            by_method[kind] = members.measure(logits[kind])
            line.advance(1)
        chosen = max(tried, key=lambda kind: goodness(by_method[kind], metric))
        for name in names:
            others = members.without(name)
            without[name] = others.measure(others.cross_fit(chosen))
            line.advance(1)
    natural = logits[chosen]
    best = max(names, key=lambda name: goodness(by_member[name], metric))
    with progress_line("gain replicates", replicates, unit="replicates") as line:
        alone, joined = (Scores(z, z + balance) for z in (natural_NM[:, names.index(best)], natural))
        gain = paired_bootstrap(first.label, alone, joined, replicates, seed=seed, on_replicate=lambda: line.advance(1))

    parts = parts_of(first.fold, first.label, natural, balance)
    links = {part.name: LogitLink(1.0, float(np.exp(balance[part.rows[0]]))) for part in parts}
    by_part = {part.name: measure_part(part) for part in parts}
    stack = members.fit(chosen)
    metrics = {
        "overall": by_method[chosen].model_dump(),
        "folds": dump(by_part),
        "spread": spread(list(by_part.values())),
        "segments": {},
        "method": chosen,
        "member_folders": {path.name: str(path.resolve()) for path in folders},
        "members": dump(by_member),
        "methods": dump(by_method),
        "without": dump(without),
        "weights": dict(zip(names, stack.weights, strict=True)) if chosen != "rank_mean" else None,
        "gain": {"over": best, "differences": dump(gain)},
        "train": {"fits": {name: {"link": asdict(link)} for name, link in links.items()}},
    }
    metrics["calibration"] = calibrate_parts(run, parts)
    write_json(run.file(STACK_FILE), stack.model_dump(mode="json"))
    run.finish(metrics, parts, first.row_id.take(np.concatenate([part.rows for part in parts])))


def members_of(runs: Sequence[Predictions]) -> Members:
    """Joined predictions as members of an ensemble."""
    first = runs[0]
    return Members(
        names=tuple(each.name for each in runs),
        logits=np.stack([each.scores.natural_logit for each in runs], axis=1),
        label=first.label,
        fold=first.fold,
        balance=first.scores.balanced_logit - first.scores.natural_logit,
    )


def parts_of(fold: np.ndarray, label: np.ndarray, natural: np.ndarray, balance: np.ndarray) -> list[Part]:
    """[n] natural logits by fold; a part's rows are their places."""
    parts = []
    for name in np.unique(fold):
        rows = np.flatnonzero(fold == name)
        mine = natural[rows]
        parts.append(Part(name, rows, label[rows], mine.astype(np.float32), mine, mine + balance[rows]))
    return parts


def print_ensemble(metrics: dict[str, Any]) -> None:
    """Shows members, methods, what each member brings, and the gain over the best of them."""
    table = Table(
        title="members, and ways to join them; each row judged by a fit to the other folds", title_justify="left"
    )
    table.add_column("")
    for column in (*_SHOWN, "weight", "score without it"):
        table.add_column(column, justify="right")
    for name, found in metrics["members"].items():
        weight = "" if metrics["weights"] is None else f"{metrics['weights'][name]:.3f}"
        table.add_row(name, *_figures(found), weight, f"{metrics['without'][name]['score']:.5f}")
    table.add_section()
    for kind, found in metrics["methods"].items():
        table.add_row(kind, *_figures(found), style="bold" if kind == metrics["method"] else None)
    console.print(table)
    differences = {name: Difference.model_validate(d) for name, d in metrics["gain"]["differences"].items()}
    print_differences(differences, f"{metrics['method']} - {metrics['gain']['over']}")


def _figures(found: dict[str, Any]) -> list[str]:
    return [f"{found[name]:.5f}" for name in _SHOWN]


def dump(models: Mapping[Any, BaseModel]) -> dict[str, Any]:
    """As JSON holds them."""
    return {name: model.model_dump() for name, model in models.items()}


def goodness(found: Metrics, metric: MetricName) -> float:
    """The higher the better, whatever the metric; undefined is worst."""
    value = getattr(found, metric)
    if value is None:
        return -np.inf
    return -value if metric in LOWER_IS_BETTER else value


def fingerprint(run: Path) -> str:
    """Of what a finished run predicted."""
    with (run / OOF_FILE).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


if __name__ == "__main__":
    run_pipeline(ensemble)
