"""What every pipeline's command line shares: the exit codes and one-line errors."""

import errno
import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.common.interrupt import EXIT_INTERRUPTED, MESSAGE, is_interrupt, raise_from_here
from recsys.errors import InputError, RenamedWarning
from recsys.system.progress import console

CONFIGS = Path(__file__).parents[2] / "configs"

TOSS_CONFIG, TOSS_RETRIEVAL_CONFIG = CONFIGS / "toss.yaml", CONFIGS / "toss_retrieval.yaml"

ConfigOption = Annotated[
    Path,
    typer.Option(help="YAML config: the data's schema and the settings for it.", show_default="configs/toss.yaml"),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Dotted settings over the config's.", show_default=False),
]

RANK = os.environ.get("RANK", "0")
"""Of torchrun's processes, this one's number."""

_CURES = {
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG): "free some space, or choose another --out",
    (errno.EROFS, errno.EACCES, errno.EPERM): "allow writing there, or choose another --out",
    (errno.EIO,): "the disk is failing: choose another --out",
    (errno.EMFILE, errno.ENFILE): "raise the limit of open files (ulimit -n)",
    (errno.ENAMETOOLONG, errno.ENOTDIR): "choose another --out",
}

EXIT_BAD_INPUT = 2


def run_pipeline(command: Callable[..., None]) -> None:
    """Runs `command` as a Typer program.

    Exit codes: 0 done, 2 bad input or usage (one line on stderr), 130 interrupted, 1 our own fault (with a traceback).
    """

    @functools.wraps(command)
    def guarded(*args: object, **kwargs: object) -> None:
        try:
            raise_from_here()
            command(*args, **kwargs)
        except BaseException as error:  # KeyboardInterrupt is one, and what torch makes of it is another
            if (end := _end_by(error)) is None:
                raise
            message, code = end
            print(message, file=sys.stderr)
            raise typer.Exit(code) from error

    if RANK != "0":
        console.quiet = True  # of torchrun's processes one speaks
    _quiet_libraries()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(no_args_is_help=False)(guarded)
    app()


def _end_by(error: BaseException) -> tuple[str, int] | None:
    """The line and the exit code that an error ends in; None where the fault is ours."""
    if is_interrupt(error):
        return MESSAGE, EXIT_INTERRUPTED
    if isinstance(error, InputError):
        whose = "error" if RANK == "0" else f"error (rank {RANK})"
        return f"{whose}: {one_line(error)}", EXIT_BAD_INPUT
    if isinstance(error, OSError | MemoryError) and (cure := _cure(error)) is not None:
        return f"error: {_what(error)}: {cure}, then give the same command again", EXIT_BAD_INPUT
    return None


def _what(error: OSError | MemoryError) -> str:
    """What the machine refused; libraries say it in many ways."""
    if isinstance(error, MemoryError):
        return "the machine has too little memory"
    where = f" ({error.filename})" if error.filename else ""
    return f"{os.strerror(error.errno or 0)}{where}"


def _cure(error: OSError | MemoryError) -> str | None:
    """What a user can do about a machine that refuses; None where the fault is ours."""
    if isinstance(error, MemoryError):
        return "end other programs, or take a larger machine"
    return next((cure for numbers, cure in _CURES.items() if error.errno in numbers), None)


def one_line(error: Exception) -> str:
    """What an error says, without the breaks that a library or a name in it may bring."""
    return " ".join(str(error).split())


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **named: Any) -> None:
    """Prints a hint about an old name as one line, and any other warning as Python does."""
    if issubclass(category, RenamedWarning):
        print(f"hint: {message}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, *where[:2]), file=sys.stderr, end="")


def _quiet_libraries() -> None:
    """Leaves out what TorchRec, fbgemm and torch.fx say to their own developers, or of what we chose."""
    for name in (None, "torchrec", "torch.fx._symbolic_trace"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.showwarning = _show_warning
    warnings.filterwarnings("ignore", module="torchrec")
    warnings.filterwarnings("ignore", message=".*`broadcast_buffers` is deprecated")
    # the tests compare these gradients with plain torch's
    warnings.filterwarnings("ignore", message=".*an autograd kernel was not registered")
