"""State of a plan: the run folders, the verdicts of its gates, and the settings of later steps that follow."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from pipelines.common.config import (
    DataConfig,
    RankConfig,
    RetrievalConfig,
    data_section,
    load_rank_config,
    load_retrieval_config,
)
from pipelines.common.layers import read_layers
from pipelines.plan.choices import best_point, chosen_on_reported
from pipelines.plan.config import GateStep, PlanConfig, RankStep, RetrievalStep, Step, SweepStep
from pipelines.plan.rows import FOLDS_OPTION, MissingRows
from pipelines.plan.selection import read_selection, with_selection
from ranking.trees.config import GBDTTrainerConfig
from recsys.config import Values, validate
from recsys.evaluation.gates import DistributionGate, EvaluateOn, EvaluateOnOrAuto, Gate, LatencyGate, MemoryGate
from recsys.evaluation.metrics import MetricName
from recsys.evaluation.verdicts.holm import adjust
from recsys.evaluation.verdicts.verdict import Verdict
from recsys.runs.config import EVALUATION_SECTION
from recsys.runs.metrics import MetricsT, RunMetrics, read_metrics_as
from recsys.system.files import is_done, read_json, write_json
from recsys.training.config import TrainerConfig

Runs = dict[str, RunMetrics]
"""Metrics of finished runs, by name."""
GATES = "gates"


@dataclass(frozen=True)
class NotApplicable:
    """What the data set cannot run of a plan: the reasons by name."""

    steps: Mapping[str, str] = field(default_factory=dict)
    gates: Mapping[str, str] = field(default_factory=dict)
    missing: MissingRows = field(default_factory=MissingRows)
    """Why no run is evaluated on some kinds of rows."""


@dataclass(frozen=True)
class PlanState:
    """A plan and its folder."""

    plan: PlanConfig
    out: Path
    not_applicable: NotApplicable = NotApplicable()
    """See `pipelines.plan.applicable`; empty before the data is opened."""

    @property
    def config(self) -> Path:
        """The config of the data and the models."""
        assert self.plan.config is not None  # checked by `plan`
        return Path(self.plan.config)

    def folder(self, name: str, evaluate_on: EvaluateOn = "folds") -> Path:
        """The run folder of a step."""
        return self.out / f"{self.plan.named(name).step}-{name}{'' if evaluate_on == 'folds' else f'-{evaluate_on}'}"

    def resolve(self, evaluate_on: EvaluateOnOrAuto) -> EvaluateOn:
        """The rows that a step or gate means on the plan's data."""
        return self.not_applicable.missing.resolve(evaluate_on)

    def metrics(self, name: str, evaluate_on: EvaluateOn = "folds") -> RunMetrics | None:
        """The metrics of a run; None if it is not finished."""
        return self.metrics_as(RunMetrics, name, evaluate_on)

    def metrics_as(self, kind: type[MetricsT], name: str, evaluate_on: EvaluateOn = "folds") -> MetricsT | None:
        """The metrics of a run as another class of metrics; None if it is not finished."""
        folder = self.folder(name, evaluate_on)
        return read_metrics_as(folder, kind) if is_done(folder) else None

    @cached_property
    def named_metrics(self) -> tuple[MetricName, ...]:
        """The metrics that the plan's config and gates name, first the one that runs are chosen by."""
        step = next((step for step in self.plan.steps if isinstance(step, RankStep)), None)
        by_config = ("logloss",) if step is None else self.rank_config(step).named_metrics
        by_gates = [criterion.metric for gate in self.plan.gates.values() for criterion in getattr(gate, "any_of", ())]
        return tuple(dict.fromkeys((*by_config, *by_gates)))

    @property
    def metric(self) -> MetricName:
        """The metric that runs are chosen by."""
        return self.named_metrics[0]

    def score(self, name: str, evaluate_on: EvaluateOn, metric: MetricName | None = None) -> float | None:
        """A metric of a run, higher is better; None if the run is not finished or the metric is undefined.

        Args:
            name: the run.
            evaluate_on: the rows.
            metric: the metric; None takes the one that runs are chosen by.
        """
        metrics, metric = self.metrics(name, evaluate_on), metric or self.metric
        if metrics is None or metrics.overall.value(metric) is None:
            return None
        return metrics.overall.signed(metric)

    def data_config(self) -> DataConfig:
        """The data config of the plan."""
        return data_section(self.sections(), str(self.config))

    def sections(self) -> Values:
        """All sections of the config, with the plan's settings of the data."""
        return read_layers(self.config, self._data_settings())

    def _data_settings(self) -> list[str]:
        of_ranking = ("trainer.", "model.", "features.", f"{EVALUATION_SECTION}.")
        return [setting for setting in self.plan.set if not setting.startswith(of_ranking)]

    def verdicts(self, gate: str) -> list[Verdict]:
        """The verdicts of a gate: none yet, one, or two if its retry run was evaluated."""
        verdicts = []
        for number in (1, 2):
            path = self._verdict_file(gate, number)
            if not path.is_file():
                break
            verdicts.append(validate(Verdict, read_json(path), str(path)))
        return verdicts

    def keep(self, verdict: Verdict) -> None:
        """Saves a verdict of a gate."""
        path = self._verdict_file(verdict.gate, len(self.verdicts(verdict.gate)) + 1)
        path.parent.mkdir(exist_ok=True)
        write_json(path, verdict.model_dump(mode="json"))

    def _verdict_file(self, gate: str, number: int) -> Path:
        return self.out / GATES / f"{gate}{'' if number == 1 else '-again'}.json"

    def is_decided(self, gate: str) -> bool:
        """Whether a gate has a verdict, and the last one is not retry."""
        verdicts = self.verdicts(gate)
        return bool(verdicts) and verdicts[-1].outcome != "retry"

    def candidate(self, gate: Gate, name: str) -> str:
        """The run that a gate evaluates next: its retry run after the first verdict, else its candidate."""
        verdicts = self.verdicts(name)
        retry = getattr(gate, "retry", None)
        return retry if verdicts and retry is not None else gate.candidate  # type: ignore[union-attr]

    def is_required(self, name: str) -> bool | None:
        """Whether a run has to be trained; None for the retry run of a gate without a verdict."""
        gate = self.plan.gate_of_retry(name)
        if gate is None:
            return True
        verdicts = self.verdicts(gate)
        return verdicts[0].outcome == "retry" if verdicts else None

    def final_verdicts(self) -> dict[str, list[Verdict]]:
        """The verdicts of all gates so far, by gate, after the plan's correction for the number of comparisons.

        A gate's own file has the verdict as it was made, which later steps of the plan followed. The correction counts
        the comparisons of all gates, so that it is known after the last of them: the choice of the final model follows
        it.
        """
        verdicts = {gate: self.verdicts(gate) for gate in self.plan.gates}
        if self.plan.multiplicity == "none":
            return verdicts
        remaining = iter(adjust([verdict for of_gate in verdicts.values() for verdict in of_gate]))
        return {gate: [next(remaining) for _ in of_gate] for gate, of_gate in verdicts.items()}

    @property
    def n_looks(self) -> int:
        """The number of comparisons that the gates made so far."""
        return sum(verdict.n_looks for gate in self.plan.gates for verdict in self.verdicts(gate))

    def rejected(self) -> set[str]:
        """The runs that gates rejected: candidates, and runs outside the limits of a gate of a single run."""
        rejected: set[str] = set()
        for gate, verdicts in self.final_verdicts().items():
            has_limits = isinstance(self.plan.gates[gate], DistributionGate | LatencyGate | MemoryGate)
            role = "run" if has_limits else "candidate"
            rejected |= {verdict.runs[role] for verdict in verdicts if not verdict.is_adopted and role in verdict.runs}
        return rejected

    def settings(self, before: Step) -> tuple[str, ...]:
        """Overrides that gates before a step adopted."""
        adopted: list[str] = []
        for step in self.plan.steps:
            if step is before:
                break
            if isinstance(step, GateStep) and (verdicts := self.verdicts(step.gate)):
                adopted += verdicts[-1].settings
        return tuple(dict.fromkeys(adopted))

    def sweep_settings(self, step: SweepStep) -> list[str]:
        """The arguments of a sweep; the last setting of a key has priority."""
        shared = (*self.plan.set, *self.plan.models.get(step.model, ()), *self.settings(step), *step.over)
        return list({setting.partition("=")[0]: setting for setting in shared}.values())

    def rank_config(self, step: RankStep | SweepStep, overrides: tuple[str, ...] = ()) -> RankConfig:
        """The config of a step: settings of the plan, of earlier gates, of its sweep, of the step, and overrides."""
        uses_adopted = step.model != "gbdt"
        adopted = self.settings(step) if uses_adopted else ()
        step_settings = step.set if isinstance(step, RankStep) else ()
        point = self.best_point(step.best_of) if isinstance(step, RankStep) and step.best_of else ()
        seeds = (f"trainer.seeds={self.plan.seeds}",) if isinstance(step, RankStep) and self.plan.seeds > 1 else ()
        shared = (*self.plan.set, *self.plan.models.get(step.model, ()), *seeds)
        settings = (*shared, *adopted, *point, *step_settings, *overrides)
        config = load_rank_config(self.config, step.model, list(for_model(step.model, settings)))
        if not isinstance(step, RankStep) or step.select_by is None:
            return config
        selection = read_selection(self.folder(step.select_by, "tuning"))
        return replace(config, features=with_selection(config.features, selection))

    def retrieval_config(self, step: RetrievalStep) -> RetrievalConfig:
        """The config of a retrieval step."""
        return load_retrieval_config(self.config, [*self._data_settings(), *step.set])

    def sweep_folds(self, step: SweepStep) -> str:
        """The `--folds` value of a sweep: the tuning part, or one fold if the data has none."""
        return FOLDS_OPTION["tuning"] if self.resolve("tuning") == "tuning" else str(step.fold)

    def best_point(self, sweep: str) -> tuple[str, ...]:
        """The settings of a sweep's chosen trial; empty for a sweep that is not finished."""
        on_tuning = self.not_applicable.missing.tuning is None
        return best_point(self.folder(sweep), on_tuning, self.plan.sweep_choice)

    def why_not_applicable(self, step: Step) -> str | None:
        """Why the data set cannot run a step or a gate; None if it can."""
        if isinstance(step, GateStep):
            return self.not_applicable.gates.get(step.gate)
        return self.not_applicable.steps.get(step.name)

    def fits(self, step: RankStep) -> Iterator[tuple[EvaluateOn, Path]]:
        """The run folders of a step, with the rows that each is evaluated on."""
        missing = self.not_applicable.missing
        for evaluate_on in missing.resolve_all(step.evaluate_on):
            if missing.reason(evaluate_on) is None:
                yield evaluate_on, self.folder(step.name, evaluate_on)

    def chosen_on_reported(self, name: str, evaluate_on: EvaluateOn) -> str | None:
        """See `pipelines.plan.choices`."""
        return chosen_on_reported(self.plan, self.not_applicable.missing, name, evaluate_on)


def for_model(model: str, settings: tuple[str, ...]) -> tuple[str, ...]:
    """Settings for a model; for gbdt without the trainer keys that GBDTTrainerConfig does not have."""
    if model != "gbdt":
        return settings
    keys = set(TrainerConfig.model_fields) - set(GBDTTrainerConfig.model_fields)
    prefixes = tuple(prefix for key in keys for prefix in (f"trainer.{key}=", f"trainer.{key}."))
    return tuple(setting for setting in settings if not setting.startswith(prefixes))
