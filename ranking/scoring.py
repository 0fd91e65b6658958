"""Scores new rows with a finished run: averages its calibrated fold models, or stacks its members and calibrates."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch

from ranking.fitted import DeepFit, Fit, FittedModel, TreeFit, n_parallel_blocks
from ranking.models import config_class
from ranking.trees.config import GBDTConfig
from recsys.config import validate
from recsys.data.dataset import PreparedDataset
from recsys.data.store import EncodedRows, ExtraColumn, RowStore
from recsys.errors import InputError
from recsys.evaluation.calibration.calibrator import Calibrator, RunCalibration
from recsys.evaluation.stacking import Stack
from recsys.runs.config import RunSection, read_run_config
from recsys.runs.layout import CALIBRATION_FILE, CHECKPOINTS, CONFIG_FILE, STACK_FILE, fit_name
from recsys.runs.metrics import read_metrics
from recsys.runs.score_feature import with_scores
from recsys.system.files import is_done, read_json
from recsys.system.seal import verify
from recsys.system.threads import in_threads
from recsys.system.world import World
from recsys.training.config import TrainerConfig

BlockT = TypeVar("BlockT")


class Scorer(Protocol):
    """Scores encoded rows."""

    log_pos_weight: float
    """ln (N_neg / N_pos) of the training rows, the class-balanced logit minus the natural logit."""
    categorical: frozenset[str]
    """The categorical features of its models."""
    reads_retrieval_score: bool
    """Whether a model reads the score of a retrieval run, which only rows of the prepared data set have."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that its models were fitted to."""
        ...

    def of_split(self, split: str) -> "Scorer":
        """Returns the scorer of the models of one split alone."""
        ...

    def natural_logit(self, rows: EncodedRows) -> np.ndarray:
        """Returns the [n] natural logits, the logits of p."""
        ...


class RunScorer:
    """Calibrates the natural logits of each model of a finished `pipelines.rank` run, then averages them.

    Args:
        run: the run folder.
        dataset: the data set that the run was trained on.
        world: the processes.
        calibration: the calibrators of the models; None takes the run's own.

    Raises:
        InputError: when the run was trained on another data set, or one of its files is damaged.
    """

    def __init__(
        self, run: Path, dataset: PreparedDataset, world: World, calibration: RunCalibration | None = None
    ) -> None:
        config = read_run_config(run)
        if config.run.data is None or config.run.data.fingerprint != dataset.manifest.fingerprint:
            raise InputError(f"{run} was not trained on {dataset.folder}: pass the data set of the run with --data")
        self._run, self._dataset = run, dataset
        scored = dataset if config.run.score_feature is None else _with_scores(run, config.run, dataset)
        self._scores = scored.store.extra
        model = validate(config_class(config.model["name"]), config.model, f"{run / CONFIG_FILE}", "model.")
        fits = read_metrics(run).train_summary.fits
        calibration = read_calibration(run) if calibration is None else calibration
        self.fits: list[FittedModel] = []
        verify(run, CALIBRATION_FILE, CHECKPOINTS)
        n_seeds = int(config.trainer.get("seeds", 1))  # earlier versions had one
        for split_name, number in itertools.product(config.run.splits, range(n_seeds)):
            name = fit_name(split_name, number)
            split, weights = scored.split(split_name, config.features), run / CHECKPOINTS / name
            fit: Fit
            if isinstance(model, GBDTConfig):
                fit = TreeFit(model, weights)
            else:
                trainer = validate(TrainerConfig, config.trainer, f"{run / CONFIG_FILE}", "trainer.")
                fit = DeepFit(model, trainer, split, weights, fits[name].precision, world)
            link, calibrator = fits[name].link, calibration.of_fit(name)
            self.fits.append(FittedModel(name, split, config.features, link, calibrator, fit))
        self.log_pos_weight = self._mean_log_pos_weight()
        self.categorical = frozenset(name for fitted in self.fits for name in fitted.split.schema.categorical)
        self.reads_retrieval_score = self._scores is not None

    @property
    def splits(self) -> tuple[str, ...]:
        """See `Scorer`."""
        return tuple(dict.fromkeys(fitted.split.name for fitted in self.fits))

    def of_split(self, split: str) -> "RunScorer":
        """See `Scorer`."""
        scorer = copy(self)
        scorer.fits = [fitted for fitted in self.fits if fitted.split.name == split]
        scorer.log_pos_weight = scorer._mean_log_pos_weight()
        return scorer

    def _mean_log_pos_weight(self) -> float:
        return float(np.mean([fitted.link.log_pos_weight for fitted in self.fits]))

    @torch.no_grad()
    def natural_logit(self, rows: EncodedRows) -> np.ndarray:
        """Returns the [n] natural logits, the logits of p."""
        store = RowStore.from_encoded(rows, self._dataset.manifest.schema_)
        if self._scores is not None:
            store = replace(store, extra=self._scores_of(rows, self._scores))
        logits = [
            fitted.calibrator.natural_logit(
                fitted.link.logits(fitted.fit.logit(replace(fitted.split, store=store))).natural
            )
            for fitted in self.fits
        ]
        return np.asarray(np.add.reduce(logits) / len(logits))

    def _scores_of(self, rows: EncodedRows, scores: ExtraColumn) -> ExtraColumn:
        """The retrieval scores of rows of the prepared data set."""
        if rows.numbers is None:
            raise InputError(
                f"{self._run} reads the scores of a retrieval run, {scores.origin}, which has scores of the rows of "
                f"{self._dataset.folder} only: score its test rows, or use a run without them"
            )
        values = scores.values[rows.numbers]
        if n_missing := int(np.isnan(values).sum()):
            raise InputError(
                f"{scores.origin} has no score for {n_missing:,} of {len(values):,} rows to score: run the retrieval "
                "again, which scores the test rows, or use a run without its scores"
            )
        return replace(scores, values=values)


class EnsembleScorer:
    """Stacks the calibrated members of a finished `pipelines.ensemble` run, then calibrates.

    Args:
        run: the run folder.
        members: the members' run folders by name.
        dataset: the data set that all members were trained on.
        world: the processes.
        is_calibrated: whether to apply the ensemble's calibration.
    """

    def __init__(
        self,
        run: Path,
        members: dict[str, Path],
        dataset: PreparedDataset,
        world: World,
        is_calibrated: bool = True,
    ) -> None:
        self.stack = validate(Stack, read_json(run / STACK_FILE), f"{run / STACK_FILE}")
        calibration = read_calibration(run)
        self.members = [
            RunScorer(members[name], dataset, world, self._calibration_of_member(name, calibration))
            for name in self.stack.members
        ]
        self.calibrator = calibration.calibrator if is_calibrated else Calibrator()
        self.log_pos_weight = self._mean_log_pos_weight()
        self.categorical = frozenset().union(*(member.categorical for member in self.members))
        self.reads_retrieval_score = any(member.reads_retrieval_score for member in self.members)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that models of all members were fitted to."""
        first, *others = (member.splits for member in self.members)
        return tuple(split for split in first if all(split in splits for splits in others))

    def of_split(self, split: str) -> "EnsembleScorer":
        """See `Scorer`."""
        scorer = copy(self)
        scorer.members = [member.of_split(split) for member in self.members]
        scorer.log_pos_weight = scorer._mean_log_pos_weight()
        return scorer

    def _mean_log_pos_weight(self) -> float:
        return float(np.mean([member.log_pos_weight for member in self.members]))

    def _calibration_of_member(self, name: str, calibration: RunCalibration) -> RunCalibration | None:
        """The calibration of a member; None for the one in its own folder."""
        if not self.stack.is_on_calibrated:
            return RunCalibration()
        given = calibration.by_member.get(name)
        return None if given is None else RunCalibration(calibrator=given)

    def natural_logit(self, rows: EncodedRows) -> np.ndarray:
        """Returns the [n] natural logits, the logits of p."""
        stacked = self.stack.natural_logit(np.stack([member.natural_logit(rows) for member in self.members], axis=1))
        return self.calibrator.natural_logit(stacked)


@dataclass(frozen=True)
class RunData:
    """The data set of a run and its members."""

    folder: Path
    """The prepared data set."""
    members: dict[str, Path]
    """Run folders of an ensemble's members by name; empty for a single run."""


def find_run_data(run: Path) -> RunData:
    """Finds the data set and the members of a finished run.

    Raises:
        InputError: when the folder is not a finished run, or a member's folder is missing.
    """
    if not is_done(run):
        raise InputError(f"{run} is not a finished run: give a run folder of pipelines.rank or pipelines.ensemble")
    verify(run, CONFIG_FILE, CALIBRATION_FILE, STACK_FILE)
    metrics = read_metrics(run)
    members = {}
    for name, path in (metrics.member_folders or {}).items():
        folder = next((folder for folder in (Path(path), run.parent / name) if is_done(folder)), None)
        if folder is None:
            raise InputError(f"{run}: its member {name!r} is neither at {path} nor in {run.parent}: restore its folder")
        members[name] = folder
    if members:
        return RunData(find_run_data(next(iter(members.values()))).folder, members)
    if metrics.data is None:
        raise InputError(f"{run} is not a ranking run: give a run folder of pipelines.rank or pipelines.ensemble")
    return RunData(Path(metrics.data.folder), {})


def load_scorer(run: Path, data: RunData, dataset: PreparedDataset, world: World, is_calibrated: bool = True) -> Scorer:
    """Loads the scorer of a run or an ensemble; without calibration, that of an ensemble's own output is left out."""
    if data.members:
        return EnsembleScorer(run, data.members, dataset, world, is_calibrated)
    return RunScorer(run, dataset, world, None if is_calibrated else RunCalibration())


def score_blocks(
    scorer: Scorer, blocks: Iterable[BlockT], encode: Callable[[BlockT], EncodedRows]
) -> Iterator[tuple[BlockT, np.ndarray]]:
    """Yields each block with the natural logits of its rows.

    Each core scores a separate block: most operations of a small model are too small to run on several cores.
    """
    remaining = iter(blocks)
    for first in remaining:  # not in a thread: TorchRec finishes building a model in its first forward pass
        yield first, scorer.natural_logit(encode(first))
        break
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from in_threads(lambda block: scorer.natural_logit(encode(block)), remaining, n_parallel_blocks())
    finally:
        torch.set_num_threads(n_threads)


def _with_scores(run: Path, section: RunSection, dataset: PreparedDataset) -> PreparedDataset:
    """The data set with the scores of the retrieval run that a run was trained with.

    Raises:
        InputError: when the retrieval run is missing, or has other scores now.
    """
    feature = section.score_feature
    assert feature is not None
    found = next((path for path in (Path(feature.run), run.parent / Path(feature.run).name) if is_done(path)), None)
    if found is None:
        raise InputError(f"{feature.run}, whose scores {run} reads, is missing: restore its folder")
    scored = with_scores(dataset, found, section.splits)
    if scored.feature.fingerprint != feature.fingerprint:
        raise InputError(f"{found} has other scores than those that {run} was trained with: train {run} again")
    return scored.dataset


def read_calibration(run: Path) -> RunCalibration:
    """Reads the calibrators of a run; the identity for a run without calibration."""
    path = run / CALIBRATION_FILE
    return validate(RunCalibration, read_json(path), f"{path}") if path.is_file() else RunCalibration()
