"""Choices of a plan: the best point of a sweep, and which figures were measured on rows that a choice was made on."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.plan.config import EnsembleStep, GateStep, PlanConfig, RankStep, Step, SweepChoice
from pipelines.plan.rows import MissingRows
from pipelines.sweep import SWEEP_FILE
from recsys.evaluation.gates import ComparisonGate, EvaluateOn
from recsys.evaluation.metrics import LOWER_IS_BETTER, MetricName
from recsys.runs.metrics import RunMetrics, read_metrics
from recsys.system.files import read_json

CHOSEN_ON_REPORTED = "chosen on reported rows"


def best_point(sweep: Path, on_tuning: bool, choice: SweepChoice = "best") -> tuple[str, ...]:
    """The settings of the chosen trial of a finished sweep; empty without a sweep.

    Args:
        sweep: the sweep's folder.
        choice: the best trial, or the simplest within one standard error of it, which takes a tuning part.
        on_tuning: whether its trials are evaluated on the tuning part, whose rows no figure is reported for. Otherwise
            the trial with the best early-stopping metric is taken, whose rows take part in the choice only.
    """
    path = sweep / SWEEP_FILE
    if not path.is_file():
        return ()
    values = read_json(path)
    trials = [trial for trial in values["trials"] if trial["state"] == "complete"]
    if choice == "simplest" and on_tuning and (simplest := values.get("simplest")) is not None:
        trials = [trial for trial in trials if Path(trial["run"]).name == simplest["run"]]

    def score(trial: Mapping[str, Any]) -> float | None:
        if on_tuning:
            return _score(trial, values["metric"])
        return watched(read_metrics(sweep / Path(trial["run"]).name))

    scored = [(score(trial), trial) for trial in trials]
    known = [(score, trial["point"]) for score, trial in scored if score is not None]
    _, point = max(known, key=lambda found: found[0], default=(None, {}))
    return tuple(f"{key}={value}" for key, value in point.items())


def _score(trial: Mapping[str, Any], metric: MetricName) -> float | None:
    """The metric of a trial's evaluation rows, higher is better; None if it is undefined."""
    value = trial["metrics"][metric]
    return None if value is None else -value if metric in LOWER_IS_BETTER else value


def watched(metrics: RunMetrics) -> float | None:
    """The mean over fits of the best value of the early-stopping metric; None without early stopping."""
    by_fit = [
        [epoch.monitored for epoch in fit.epochs if epoch.monitored is not None]
        for fit in metrics.train_summary.fits.values()
    ]
    return sum(max(values) for values in by_fit) / len(by_fit) if all(by_fit) else None


def chosen_on_reported(plan: PlanConfig, missing: MissingRows, name: str, evaluate_on: EvaluateOn) -> str | None:
    """A note for the figures of a run whose settings were chosen on rows that they are measured on; None for others.

    Settings come from the sweep of `best_of`, and from the `settings` of earlier gates. Choices made on the tuning part
    cost no figure of other rows its honesty.

    Args:
        plan: the plan.
        missing: the evaluation rows that the data lacks.
        name: the run.
        evaluate_on: the rows of the figures.
    """
    is_on_tuning = evaluate_on == "tuning"
    choices = _choices(plan, missing, plan.named(name))
    sources = [source for source, rows in choices if (rows == "tuning") == is_on_tuning]
    return f"{CHOSEN_ON_REPORTED}: {', '.join(dict.fromkeys(sources))}" if sources else None


def _choices(plan: PlanConfig, missing: MissingRows, step: Step) -> Iterator[tuple[str, EvaluateOn]]:
    """The sweeps and gates that a step's settings come from, with the rows that they chose on."""
    if isinstance(step, EnsembleStep):
        for member in step.members:
            yield from _choices(plan, missing, plan.named(member))
    if not isinstance(step, RankStep):
        return
    if step.best_of is not None:
        yield f"sweep {step.best_of}", "folds" if missing.resolve("tuning") != "tuning" else "tuning"
    if step.select_by is not None:
        yield f"importance of {step.select_by}", "tuning"
    for earlier in plan.steps[: plan.steps.index(step)] if step.model != "gbdt" else ():  # gbdt adopts no settings
        if isinstance(earlier, GateStep):
            gate = plan.gates[earlier.gate]
            if isinstance(gate, ComparisonGate) and gate.settings:
                yield f"gate {earlier.gate}", missing.resolve(gate.evaluate_on)
