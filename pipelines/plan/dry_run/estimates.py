"""Estimates the time of a plan's steps from finished runs, or from short trials on a sample of the rows.

A deep fit takes a start, and a time for each row of each epoch. Trees take a time for each row to bin, and, for each
tree, a time of its own and one for each row; the trials grow trees on two numbers of rows to tell them apart. Trials
read the same features as the fits, so that their number is included.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipelines.common.config import RankConfig
from ranking.models import build_trainer
from ranking.trees.config import GBDTConfig, GBDTTrainerConfig
from recsys.data.dataset import PreparedDataset
from recsys.data.rows import Permutation, PermutedSlice, Rows
from recsys.data.split import Split
from recsys.evaluation.calibration.calibrator import CalibrationKind, Calibrator
from recsys.evaluation.calibration.rows import HeldOutRows
from recsys.evaluation.comparison import paired_bootstrap
from recsys.evaluation.logits import Logits
from recsys.evaluation.stack_choice import Member, cross_fit_ensemble, cross_fit_members
from recsys.evaluation.stacking import STACK_METHODS
from recsys.runs.metrics import TrainSummary
from recsys.system.progress import console
from recsys.system.world import World
from recsys.training.config import TrainerConfig
from recsys.training.log import Log

STEP_S = 1.5
"""Seconds of a run besides its fits: reading and writing its folder, calibration and its plots."""
METRICS_ROW_S = 5e-5
"""Seconds for all metrics and calibrations of an evaluated row."""
_START_S, _SPEEDUP_OF_SCORING = 1.0, 3.0
"""For finished runs, which do not record them: seconds to start a fit, and rows scored in the time of one trained."""
_EPOCHS_SHARE, _TREES_SHARE = 0.8, 0.2
"""Expected share of the maximum epochs and trees with early stopping: deep models run most of their few epochs, trees
stop long before their maximum."""
_TRIAL_BATCHES, _CPU_BATCH, _TRIAL_ROWS, _TRIAL_TREES, _TRIAL_REPLICATES = 10, 1024, 20_000, 10, 5


@dataclass(frozen=True)
class Speed:
    """Seconds of the parts of a fit, and the run that they were measured in."""

    start_s: float
    """Building the model and writing its folder."""
    row_s: float
    """Of a row once: for trees, binning."""
    round_s: float
    """Of an epoch or tree, whatever the number of rows."""
    row_round_s: float
    """Of a row in an epoch or a tree."""
    score_row_s: float
    seen_in: str

    def seconds(self, n_rows: int, n_rounds: float, n_scored: float) -> float:
        """The time of a fit and of scoring.

        Args:
            n_rows: rows that the model is fitted to.
            n_rounds: epochs or trees.
            n_scored: rows to score after the fit, and at each evaluation of early stopping.
        """
        once = self.start_s + n_rows * self.row_s + n_scored * self.score_row_s
        return once + n_rounds * (self.round_s + n_rows * self.row_round_s)


@dataclass(frozen=True)
class Fit:
    """A fit of a step."""

    settings: RankConfig
    n_rows: int
    n_evaluated: int
    """Rows that it scores at its end."""

    @property
    def n_rounds(self) -> float:
        """The expected number of epochs or trees."""
        model, trainer = self.settings.model, self.settings.trainer
        if isinstance(model, GBDTConfig):
            assert isinstance(trainer, GBDTTrainerConfig)
            if trainer.early_stopping is None:
                return model.n_trees
            least = (trainer.early_stopping.patience + 1) * trainer.trees_per_epoch
            return min(model.n_trees, max(least, _TREES_SHARE * model.n_trees))
        assert isinstance(trainer, TrainerConfig)
        n_epochs = min(trainer.epochs, trainer.stop_after or trainer.epochs)
        if trainer.early_stopping is None:
            return n_epochs
        return min(n_epochs, max(trainer.early_stopping.patience + 1, _EPOCHS_SHARE * n_epochs))

    @property
    def n_scored(self) -> float:
        """Rows that the fit scores: those that it is evaluated on, and those that early stopping monitors."""
        trainer = self.settings.trainer
        if trainer.early_stopping is None or isinstance(trainer, GBDTTrainerConfig):
            return self.n_evaluated  # the trees score the monitored rows as they grow
        return self.n_evaluated + self.n_rounds * trainer.early_stopping.validation_fraction * self.n_rows

    def seconds(self, speed: Speed) -> float:
        """The expected time of the fit, with the metrics of the evaluated rows."""
        return speed.seconds(self.n_rows, self.n_rounds, self.n_scored) + METRICS_ROW_S * self.n_evaluated


def speed_key(settings: RankConfig) -> str:
    """Settings with the same key have the same speed: model, features and batch size."""
    batch = settings.trainer.batch_size if isinstance(settings.trainer, TrainerConfig) else ""
    return f"{settings.model.model_dump_json()} {settings.features.model_dump_json()} {batch}"


def try_speed(settings: RankConfig, dataset: PreparedDataset, world: World) -> Speed:
    """Measures the speed of a model on a sample of the rows; keeps nothing."""
    split = dataset.split(dataset.split_names[-1], settings.features)
    if isinstance(settings.model, GBDTConfig):
        return _try_trees(settings, split, world)
    trainer = settings.trainer
    assert isinstance(trainer, TrainerConfig)
    # batches of a plan for a large GPU may not fit a laptop's memory
    size = trainer.batch_size if world.device.type == "cuda" else min(trainer.batch_size, _CPU_BATCH)
    changes = {"early_stopping": None, "epochs": 1, "stop_after": None, "batch_size": size}
    trial = replace(settings, trainer=trainer.model_copy(update=changes))
    _try_fit(trial, split, 2 * size, world)  # libraries and memory are set up by the first fit
    found = _try_fit(trial, split, _TRIAL_BATCHES * size, world)
    row_s = found.train_s / found.n_rows
    return Speed(found.start_s, 0.0, 0.0, row_s, found.score_s / found.n_rows, "short trial")


def _try_trees(settings: RankConfig, split: Split, world: World) -> Speed:
    assert isinstance(settings.model, GBDTConfig)
    assert isinstance(settings.trainer, GBDTTrainerConfig)
    model = settings.model.model_copy(update={"n_trees": _TRIAL_TREES})
    trainer = settings.trainer.model_copy(update={"early_stopping": None, "trees_per_epoch": _TRIAL_TREES})
    trial = replace(settings, model=model, trainer=trainer)
    n_rows = min(_TRIAL_ROWS, len(split.fit_rows))
    few, many = _try_fit(trial, split, max(1, n_rows // 4), world), _try_fit(trial, split, n_rows, world)
    n_more = max(1, many.n_rows - few.n_rows)
    row_tree_s = max(0.0, many.train_s - few.train_s) / _TRIAL_TREES / n_more
    tree_s = max(0.0, many.train_s / _TRIAL_TREES - many.n_rows * row_tree_s)
    row_s = max(0.0, many.start_s - few.start_s) / n_more
    start_s = max(0.0, many.start_s - many.n_rows * row_s)
    n_expected = Fit(settings, many.n_rows, 0).n_rounds
    score_row_s = many.score_s / many.n_rows * n_expected / _TRIAL_TREES
    return Speed(start_s, row_s, tree_s, row_tree_s, score_row_s, "short trial")


def finished_speed(settings: RankConfig, train: TrainSummary, name: str) -> Speed:
    """The speed of a finished run, whose rows/s count a row once per epoch, or per round of trees."""
    row_round_s = 1 / train.rows_per_s
    if isinstance(settings.trainer, TrainerConfig):
        return Speed(_START_S, 0.0, 0.0, row_round_s, row_round_s / _SPEEDUP_OF_SCORING, name)
    row_tree_s = row_round_s / settings.trainer.trees_per_epoch
    n_trees = Fit(settings, 1, 0).n_rounds
    return Speed(_START_S, 0.0, 0.0, row_tree_s, n_trees * row_tree_s / _SPEEDUP_OF_SCORING, name)


@dataclass(frozen=True)
class _Trial:
    n_rows: int
    start_s: float
    train_s: float
    score_s: float


def _try_fit(settings: RankConfig, split: Split, n_rows: int, world: World) -> _Trial:
    """Fits a model to a sample of rows and scores it."""
    sample = sample_rows(split.fit_rows, n_rows)
    with tempfile.TemporaryDirectory() as folder, quiet():
        start = time.perf_counter()
        n_positive = max(1, round(len(sample) * split.prior.n_positive / len(split.fit_rows)))
        prior = replace(split.prior, n_positive=n_positive, n_negative=max(1, len(sample) - n_positive))
        trial_split = replace(split, fit_rows=sample, monitored=None, prior=prior)
        weights = Path(folder) / "ckpt"
        fit = build_trainer(settings.model, settings.trainer, trial_split, None, weights, Log(None), world)
        train_s = sum(epoch.seconds for epoch in fit.fit().progress.epochs)
        start_s = time.perf_counter() - start - train_s
        scored = time.perf_counter()
        fit.predict(sample, "")
        return _Trial(len(sample), start_s, train_s, time.perf_counter() - scored)


def sample_rows(rows: Rows, n: int) -> Rows:
    """At most n of the rows, drawn at random."""
    return PermutedSlice(rows, Permutation(len(rows), 0), 0, min(n, len(rows)))


@contextmanager
def quiet() -> Iterator[None]:
    """Prints nothing within the block."""
    was_quiet, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = was_quiet


def bootstrap_seconds(n_rows: int, n_replicates: int) -> float:
    """The time of a paired bootstrap, by a trial on random predictions."""
    label, (first, second) = _random_predictions(n_rows)

    def time_of(n: int) -> float:
        return _time_of(lambda: paired_bootstrap(label, first, second, n_replicates=n))

    once = time_of(1)
    replicate_s = max(0.0, time_of(1 + _TRIAL_REPLICATES) - once) / _TRIAL_REPLICATES
    return max(1.0, n_rows / len(label)) * (once + n_replicates * replicate_s)


def stacking_seconds(n_rows: int, n_members: int, n_folds: int) -> float:
    """The time of the cross-fitted stacks of an ensemble, with each method and without each member, by a trial."""
    label, logits = _random_predictions(n_rows)
    fold = (np.arange(len(label)) % n_folds).astype(str)
    kinds: dict[str, CalibrationKind] = dict.fromkeys(np.unique(fold).tolist(), "platt")
    members = [
        Member(name, HeldOutRows(run.natural[:, None], run, label, fold), Calibrator(), kinds, "logloss")
        for name, run in zip("ab", logits, strict=True)
    ]
    whole_s = _time_of(lambda: cross_fit_ensemble(members, STACK_METHODS, "logloss", "logloss"))
    without_s = _time_of(lambda: cross_fit_members(members, ("logistic",)))
    return max(1.0, n_rows / len(label)) * n_members / len(members) * (whole_s + n_members * without_s)


def _random_predictions(n_rows: int) -> tuple[np.ndarray, list[Logits]]:
    """Labels and the logits of two models for at most `_TRIAL_ROWS` rows."""
    rng, n = np.random.default_rng(0), max(100, min(n_rows, _TRIAL_ROWS))
    label = np.zeros(n, np.int8)
    label[rng.permutation(n)[: max(10, n // 20)]] = 1  # in random folds
    return label, [Logits(rng.normal(-3.0, 1.0, n) + label, np.full(n, 3.0)) for _ in range(2)]


def _time_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def as_text(seconds: float) -> str:
    """A duration as text: `"45 s"`, `"12 min"`, `"3.2 h"`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
