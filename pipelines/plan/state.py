"""Where a plan stands: the folders of its runs, what its gates said, and what follows for the steps to come."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.common.config import (
    DataConfig,
    RankConfig,
    RetrievalConfig,
    data_section,
    load_rank_config,
    load_retrieval_config,
    read_layers,
)
from pipelines.plan.config import GateStep, PlanConfig, RankStep, RetrievalStep, Step, SweepStep
from ranking.gbdt import GBDTTrainerConfig
from recsys.config import validate
from recsys.evaluation.gates import EvaluateOn, Gate
from recsys.evaluation.verdicts import Verdict
from recsys.runs.metrics import MetricsT, RunMetrics, read_metrics, read_metrics_as
from recsys.system.files import is_done, read_json, write_json
from recsys.training.config import TrainerConfig

Runs = dict[str, RunMetrics]
"""metrics.json of finished runs, by name."""
GATES = "gates"
SWEEP_FILE = "sweep.json"


@dataclass(frozen=True)
class PlanState:
    """A plan, and what of it there is."""

    plan: PlanConfig
    out: Path

    def folder(self, name: str, evaluate_on: EvaluateOn = "folds") -> Path:
        """The run folder of a step."""
        return self.out / f"{self.plan.named(name).step}-{name}{'' if evaluate_on == 'folds' else '-holdout'}"

    def metrics(self, name: str, evaluate_on: EvaluateOn = "folds") -> RunMetrics | None:
        """metrics.json of a finished run; None where it is not finished."""
        return self.metrics_as(RunMetrics, name, evaluate_on)

    def metrics_as(self, kind: type[MetricsT], name: str, evaluate_on: EvaluateOn = "folds") -> MetricsT | None:
        """metrics.json of a finished run of another kind."""
        folder = self.folder(name, evaluate_on)
        return read_metrics_as(folder, kind) if is_done(folder) else None

    def score(self, name: str, evaluate_on: EvaluateOn = "folds") -> float | None:
        """The Toss score of a finished run."""
        metrics = self.metrics(name, evaluate_on)
        return None if metrics is None else metrics.overall.toss_score

    def data_config(self) -> DataConfig:
        """Which data."""
        return data_section(read_layers(Path(self.plan.config), self._data_settings()), self.plan.config)

    def _data_settings(self) -> list[str]:
        return [setting for setting in self.plan.set if not setting.startswith(("trainer.", "model.", "features."))]

    def verdicts(self, gate: str) -> list[Verdict]:
        """What a gate said: nothing yet, one verdict, or one more for the run that was tried instead."""
        found = []
        for number in (1, 2):
            path = self._verdict_file(gate, number)
            if not path.is_file():
                break
            found.append(validate(Verdict, read_json(path), str(path)))
        return found

    def keep(self, verdict: Verdict) -> None:
        """Keeps what a gate said."""
        path = self._verdict_file(verdict.gate, len(self.verdicts(verdict.gate)) + 1)
        path.parent.mkdir(exist_ok=True)
        write_json(path, verdict.model_dump(mode="json"))

    def _verdict_file(self, gate: str, number: int) -> Path:
        return self.out / GATES / f"{gate}{'' if number == 1 else '-again'}.json"

    def is_decided(self, gate: str) -> bool:
        """Whether a gate has nothing more to say: its last word was no retry."""
        said = self.verdicts(gate)
        return bool(said) and said[-1].outcome != "retry"

    def candidate(self, gate: Gate, name: str) -> str:
        """The run that a gate judges now: the one to try instead once the first has failed."""
        said = self.verdicts(name)
        retry = getattr(gate, "retry", None)
        return retry if said and retry is not None else gate.candidate  # type: ignore[union-attr]

    def is_wanted(self, name: str) -> bool | None:
        """Whether a run is to be trained; None where a gate is still to ask for it or not."""
        gate = self.plan.is_retry(name)
        if gate is None:
            return True
        said = self.verdicts(gate)
        return said[0].outcome == "retry" if said else None

    def rejected(self) -> set[str]:
        """Candidates that their gates refused."""
        last = [said[-1] for gate in self.plan.gates if (said := self.verdicts(gate))]
        first = [said[0] for gate in self.plan.gates if len(said := self.verdicts(gate)) > 1]
        return {v.runs["candidate"] for v in (*first, *last) if not v.is_adopted and "candidate" in v.runs}

    def settings(self, before: Step) -> tuple[str, ...]:
        """Overrides that gates adopted before a step."""
        found: list[str] = []
        for step in self.plan.steps:
            if step is before:
                break
            if isinstance(step, GateStep) and (said := self.verdicts(step.gate)):
                found += said[-1].settings
        return tuple(dict.fromkeys(found))

    def sweep_settings(self, step: SweepStep) -> list[str]:
        """What a sweep is given: the last setting of a key counts."""
        shared = (*self.plan.set, *self.plan.models.get(step.model, ()), *self.settings(step), *step.over)
        return list({setting.partition("=")[0]: setting for setting in shared}.values())

    def rank_config(self, step: RankStep | SweepStep, overrides: tuple[str, ...] = ()) -> RankConfig:
        """How a step trains its model: the plan's settings, those that gates adopted, its own, and more."""
        takes = step.model != "gbdt" and (isinstance(step, SweepStep) or step.takes_settings)
        adopted = self.settings(step) if takes else ()
        own = step.set if isinstance(step, RankStep) else ()
        point = self.best_point(step.best_of) if isinstance(step, RankStep) and step.best_of else ()
        shared = (*self.plan.set, *self.plan.models.get(step.model, ()))
        settings = (*shared, *adopted, *point, *own, *overrides)
        return load_rank_config(Path(self.plan.config), step.model, list(for_model(step.model, settings)))

    def retrieval_config(self, step: RetrievalStep) -> RetrievalConfig:
        """How a step retrieves."""
        return load_retrieval_config(Path(self.plan.config), [*self._data_settings(), *step.set])

    def best_point(self, sweep: str) -> tuple[str, ...]:
        """The point of a finished sweep that the rows of early stopping liked best: no reported row has a say.

        Nothing where the sweep has not been run.
        """
        path = self.folder(sweep) / SWEEP_FILE
        if not path.is_file():
            return ()
        found = [
            (watched(read_metrics(path.parent / Path(trial["run"]).name)), trial["point"])
            for trial in read_json(path)["trials"]
            if trial["state"] == "complete"
        ]
        _, point = max(found, key=lambda one: one[0])
        return tuple(f"{key}={value}" for key, value in point.items())

    def fits(self, step: RankStep) -> Iterator[tuple[EvaluateOn, Path]]:
        """The run folders of a step, and what each is judged on."""
        for evaluate_on in step.evaluate_on:
            yield evaluate_on, self.folder(step.name, evaluate_on)


def watched(metrics: RunMetrics) -> float:
    """The mean over fits of the best value that early stopping saw."""
    best = [
        max(epoch.monitored for epoch in fit.epochs if epoch.monitored is not None)
        for fit in metrics.trained.fits.values()
    ]
    return sum(best) / len(best)


def for_model(model: str, settings: tuple[str, ...]) -> tuple[str, ...]:
    """Settings of training that all models share, without those that trees do not know."""
    if model != "gbdt":
        return settings
    deep = set(TrainerConfig.model_fields) - set(GBDTTrainerConfig.model_fields)
    return tuple(one for one in settings if not any(one.startswith((f"trainer.{k}=", f"trainer.{k}.")) for k in deep))
