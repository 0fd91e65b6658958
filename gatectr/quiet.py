"""What every function of the Python interface does: prints nothing unless asked to, and raises errors of one frame."""

import functools
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from pipelines.common.cli import quiet_libraries
from pipelines.common.output_options import output_to
from recsys.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")
_LOGGERS = (None, "torchrec", "torch.fx._symbolic_trace")


def public(function: Callable[P, R]) -> Callable[P, R]:
    """Raises the InputError of a function without the frames inside of it: its line says what to correct."""

    @functools.wraps(function)
    def at_the_border(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except InputError as error:
            raise InputError(str(error)) from None

    return at_the_border


@contextmanager
def printing(is_verbose: bool) -> Iterator[None]:
    """Prints tables and progress lines in the block, or nothing; hides what libraries log and warn of."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with warnings.catch_warnings(), output_to(not is_verbose, is_json=False):
        quiet_libraries()
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
