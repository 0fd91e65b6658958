"""What a sweep searches: `model.embedding_dim=16,32,64` is a grid, `trainer.learning_rate=1e-4..1e-2:log` a range."""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import optuna

from recsys.errors import InputError

Value = str | int | float
Point = dict[str, str]
"""One value for each key that is searched, as an override would say it."""


@dataclass(frozen=True)
class Grid:
    """Values to try, each of them."""

    values: tuple[str, ...]

    def suggest(self, key: str, trial: optuna.Trial) -> Value:
        """The trial's value."""
        return trial.suggest_categorical(key, self.values)


@dataclass(frozen=True)
class Range:
    """A stretch of numbers to choose from."""

    low: float
    high: float
    is_whole: bool
    is_log: bool

    def suggest(self, key: str, trial: optuna.Trial) -> Value:
        """The trial's value; four digits of it are enough to read and to search."""
        if self.is_whole:
            return trial.suggest_int(key, int(self.low), int(self.high), log=self.is_log)
        value = trial.suggest_float(key, self.low, self.high, log=self.is_log)
        return min(max(float(f"{value:.4g}"), self.low), self.high)


@dataclass(frozen=True)
class SearchSpace:
    """The keys that a sweep varies, and the overrides that all of its trials share."""

    searched: dict[str, Grid | Range]
    fixed: tuple[str, ...]

    @property
    def is_grid(self) -> bool:
        """Whether there is an end to it."""
        return all(isinstance(dimension, Grid) for dimension in self.searched.values())

    def grid(self) -> Iterator[Point]:
        """Every combination of the grids' values, with ranges at their lower end."""
        columns = [d.values if isinstance(d, Grid) else (_text(d, d.low),) for d in self.searched.values()]
        for values in itertools.product(*columns):
            yield dict(zip(self.searched, values, strict=True))

    def suggest(self, trial: optuna.Trial) -> Point:
        """A trial's point."""
        return {key: str(dimension.suggest(key, trial)) for key, dimension in self.searched.items()}

    def overrides(self, point: Point) -> list[str]:
        """What makes a config that of a point."""
        return [*self.fixed, *(f"{key}={value}" for key, value in point.items())]

    def describe(self) -> str:
        """The same text for the same search."""
        return json.dumps([self.fixed, {key: repr(dimension) for key, dimension in self.searched.items()}])


def parse_space(settings: Sequence[str]) -> SearchSpace:
    """Sorts KEY=VALUE settings into what is searched and what is fixed.

    Raises:
        InputError: when nothing is searched, a key comes twice or a range is none.
    """
    searched: dict[str, Grid | Range] = {}
    fixed: list[str] = []
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise InputError(f"{setting!r} must be KEY=VALUE, KEY=A,B,C or KEY=LOW..HIGH")
        if key in searched:
            raise InputError(f"{key} is given twice: put all its values into one list")
        parts = _split(value)
        if len(parts) > 1:
            searched[key] = Grid(tuple(parts))
        elif ".." in value:
            searched[key] = _parse_range(key, value)
        else:
            fixed.append(setting)
    if not searched:
        raise InputError("nothing to search: give a key several values, such as model.embedding_dim=16,32,64")
    return SearchSpace(searched, tuple(fixed))


def _split(value: str) -> list[str]:
    """At commas outside of brackets: `[256,128],[400]` has two parts."""
    parts, depth = [""], 0
    for character in value:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _parse_range(key: str, value: str) -> Range:
    bounds, _, scale = value.partition(":")
    low_text, _, high_text = bounds.partition("..")
    try:
        is_whole = all(text.strip().lstrip("-").isdigit() for text in (low_text, high_text))
        low, high = float(low_text), float(high_text)
    except ValueError as error:
        raise InputError(f"{key}={value} is not a range: write LOW..HIGH or LOW..HIGH:log") from error
    if scale not in ("", "log") or low >= high or (scale == "log" and low <= 0):
        raise InputError(f"{key}={value} is not a range: write LOW..HIGH with LOW < HIGH, or LOW..HIGH:log above zero")
    return Range(low, high, is_whole, scale == "log")


def _text(dimension: Range, value: float) -> str:
    return str(int(value)) if dimension.is_whole else str(value)
