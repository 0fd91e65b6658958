"""Search space of a sweep: grids (`model.embedding_dim=16,32,64`), ranges (`trainer.learning_rate=1e-4..1e-2:log`)."""

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import optuna

from recsys.errors import InputError

Value = str | int | float
Point = dict[str, str]
"""One value for each searched key, as the text of an override."""


@dataclass(frozen=True)
class Grid:
    """A list of values, all of which are tried."""

    values: tuple[str, ...]

    def suggest(self, key: str, trial: optuna.Trial) -> Value:
        """The value of a trial."""
        return trial.suggest_categorical(key, self.values)


@dataclass(frozen=True)
class Range:
    """An interval of numbers to sample from."""

    low: float
    high: float
    is_whole: bool
    is_log: bool

    def suggest(self, key: str, trial: optuna.Trial) -> Value:
        """The value of a trial, rounded to four digits."""
        if self.is_whole:
            return trial.suggest_int(key, int(self.low), int(self.high), log=self.is_log)
        value = trial.suggest_float(key, self.low, self.high, log=self.is_log)
        return min(max(float(f"{value:.4g}"), self.low), self.high)


@dataclass(frozen=True)
class SearchSpace:
    """The keys that a sweep varies, and the overrides that all trials share."""

    searched: dict[str, Grid | Range]
    fixed: tuple[str, ...]

    @property
    def is_grid(self) -> bool:
        """Whether all keys are grids, so that the number of points is finite."""
        return all(isinstance(dimension, Grid) for dimension in self.searched.values())

    def grid(self) -> Iterator[Point]:
        """Every combination of the grids' values, with each range at its lower bound."""
        columns = [d.values if isinstance(d, Grid) else (_text(d, d.low),) for d in self.searched.values()]
        for values in itertools.product(*columns):
            yield dict(zip(self.searched, values, strict=True))

    def suggest(self, trial: optuna.Trial) -> Point:
        """The point of a trial."""
        return {key: str(dimension.suggest(key, trial)) for key, dimension in self.searched.items()}

    def overrides(self, point: Point) -> list[str]:
        """The config overrides of a point."""
        return [*self.fixed, *(f"{key}={value}" for key, value in point.items())]

    def describe(self) -> str:
        """Text that identifies the search space."""
        return json.dumps([self.fixed, {key: repr(dimension) for key, dimension in self.searched.items()}])


def parse_space(settings: Sequence[str]) -> SearchSpace:
    """Splits KEY=VALUE settings into searched keys and fixed overrides.

    Raises:
        InputError: when no key is searched, a key is repeated or a range is invalid.
    """
    searched: dict[str, Grid | Range] = {}
    fixed: list[str] = []
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise InputError(f"{setting!r} must be KEY=VALUE, KEY=A,B,C or KEY=LOW..HIGH")
        if key in searched:
            raise InputError(f"{key} is given twice: put all its values into one list, as KEY=A,B,C")
        values = _split_at_commas(value)
        if len(values) > 1:
            searched[key] = Grid(tuple(values))
        elif ".." in value:
            searched[key] = _parse_range(key, value)
        else:
            fixed.append(setting)
    if not searched:
        raise InputError("nothing to search: give a key several values, such as model.embedding_dim=16,32,64")
    return SearchSpace(searched, tuple(fixed))


def _split_at_commas(value: str) -> list[str]:
    """Splits at commas outside of brackets: `[256,128],[400]` gives two values."""
    values, depth = [""], 0
    for character in value:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            values.append("")
        else:
            values[-1] += character
    return [text.strip() for text in values]


def _parse_range(key: str, value: str) -> Range:
    bounds, _, scale = value.partition(":")
    low_text, _, high_text = bounds.partition("..")
    try:
        is_whole = all(text.strip().lstrip("-").isdigit() for text in (low_text, high_text))
        low, high = float(low_text), float(high_text)
    except ValueError as error:
        raise InputError(f"{key}={value} is not a range: write LOW..HIGH or LOW..HIGH:log") from error
    is_interval = math.isfinite(low) and math.isfinite(high) and low < high
    if scale not in ("", "log") or not is_interval or (scale == "log" and low <= 0):
        raise InputError(f"{key}={value} is not a range: write LOW..HIGH with LOW < HIGH, or LOW..HIGH:log above zero")
    return Range(low, high, is_whole, scale == "log")


def _text(dimension: Range, value: float) -> str:
    return str(int(value)) if dimension.is_whole else str(value)
