"""Shared command-line code of the pipelines: common options, exit codes and one-line errors."""

import errno
import functools
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from pipelines.common.interrupt import (
    EXIT_INTERRUPTED,
    MESSAGE,
    is_first_message,
    is_interrupt,
    raised_interrupts,
)
from pipelines.common.output_options import Result, output_to, print_json, with_output_options
from recsys.errors import InputError, RenamedWarning
from recsys.system.progress import console

_PACKAGED = Path(__file__).parents[1] / "configs"
CONFIGS = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[2] / "configs"
"""The configs that come with the package: beside the pipelines where it is installed, on top of a checkout."""

TOSS_CONFIG, TOSS_RETRIEVAL_CONFIG = CONFIGS / "toss.yaml", CONFIGS / "toss_retrieval.yaml"

DATA_PANEL = "Data and settings"
"""The heading of the options --config and --data in the help of a command."""
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        help="YAML file with the data schema and the settings. Default: the config that a prepared --data was prepared "
        "with, else configs/toss.yaml.",
        rich_help_panel=DATA_PANEL,
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of a prepared data set or of raw files. Default: files.folder of the config, or the data of "
        "its generator.",
        rich_help_panel=DATA_PANEL,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings that override the config.", show_default=False),
]

ModelClass = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE:CLASS",
        help="Class of a run's own model, such as my_package.my_file:MyModel; repeatable. A run folder may come from "
        "somebody else, so that its models' code is imported only if it is named here.",
        show_default=False,
    ),
]

RANK = os.environ.get("RANK", "0")
"""Rank of this process under torchrun; "0" without torchrun."""

_REMEDIES = {
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG): "free some space, or choose another --out",
    (errno.EROFS, errno.EACCES, errno.EPERM): "make the folder writable, or choose another --out",
    (errno.EIO,): "the disk reports errors; choose another --out",
    (errno.EMFILE, errno.ENFILE): "raise the limit on open files (ulimit -n)",
    (errno.ENAMETOOLONG, errno.ENOTDIR): "choose another --out",
}

EXIT_BAD_INPUT = 2


def packaged_config(path: Path) -> Path | None:
    """The config of the package that `toss`, `toss.yaml` or `configs/toss.yaml` names; None for other paths."""
    name = path.name if path.suffix in (".yaml", ".yml") else f"{path.name}.yaml"
    is_named = path.parent in (Path(), Path("configs")) and (CONFIGS / name).is_file()
    return CONFIGS / name if is_named else None


def find_config(path: Path) -> Path:
    """The file of a config: the path itself, or else the config of that name that comes with the package."""
    return path if path.exists() else packaged_config(path) or path


def run_pipeline(command: Callable[..., Result], program: str | None = None) -> None:
    """Runs `command` as a Typer program, with the arguments of this process.

    Args:
        command: the function whose parameters are the options; what it returns is what --json prints.
        program: the name that `--help` prints; None takes that of the process.

    Exit codes: 0 success, 2 bad input or usage (one line on stderr), 130 interrupted, 1 a bug (with a traceback).
    """

    @functools.wraps(command)
    def guarded(*args: object, quiet: bool = False, as_json: bool = False, **kwargs: object) -> None:
        try:
            with raised_interrupts(), output_to(quiet, as_json):
                _check_arguments(sys.argv)
                result = command(*args, **kwargs)
                if as_json and RANK == "0":
                    print_json(result)
        except BaseException as error:  # includes KeyboardInterrupt, and the errors torch raises in its place
            if (handled := _message_and_code(error)) is None:
                raise
            message, code = handled
            if code != EXIT_INTERRUPTED or is_first_message():
                print(message, file=sys.stderr)
            raise typer.Exit(code) from error

    vars(guarded)["__signature__"] = with_output_options(command)
    if RANK != "0":
        console.quiet = True  # only rank 0 prints under torchrun
    quiet_libraries()
    warnings.showwarning = _show_warning
    _print_any_text()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(cls=_Command, no_args_is_help=False, help=_paragraphs(command.__doc__ or ""))(guarded)
    app(prog_name=program)


class _Command(TyperCommand):
    """A command that says how settings are written to those who write one as an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # of Typer's copy of Click, which is not public
            option = getattr(error, "option_name", None)
            has_settings = any(parameter.name == "overrides" for parameter in self.params)
            if option is None or getattr(error, "possibilities", None) or not has_settings:
                raise
            raise typer.BadParameter(
                f"No such option: {option}. Settings have no dashes: trainer.epochs=3, model.dropout=0.2; "
                "`gatectr config show` lists them."
            ) from error


def _paragraphs(text: str) -> str:
    """A docstring with each paragraph on one line, which the width of the terminal then breaks."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _message_and_code(error: BaseException) -> tuple[str, int] | None:
    """The message and the exit code of an error; None for a bug."""
    if is_interrupt(error):
        return MESSAGE, EXIT_INTERRUPTED
    if isinstance(error, InputError):
        prefix = "error" if RANK == "0" else f"error (rank {RANK})"
        return f"{prefix}: {one_line(error)}", EXIT_BAD_INPUT
    if isinstance(error, OSError | MemoryError) and (remedy := _remedy(error)) is not None:
        return f"error: {_system_error(error)}: {remedy}, then run the same command again", EXIT_BAD_INPUT
    return None


def _system_error(error: OSError | MemoryError) -> str:
    """The operating system's own message for an error, because libraries word it differently."""
    if isinstance(error, MemoryError):
        return "out of memory"
    path = f" ({error.filename})" if error.filename else ""
    return f"{os.strerror(error.errno or 0)}{path}"


def _remedy(error: OSError | MemoryError) -> str | None:
    """How the user can fix a system error; None for a bug."""
    if isinstance(error, MemoryError):
        return "close other programs, or use a machine with more memory"
    return next((remedy for numbers, remedy in _REMEDIES.items() if error.errno in numbers), None)


def _print_any_text() -> None:
    """Prints characters that the terminal cannot show as escapes, such as \\u2192, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _check_arguments(arguments: Sequence[str]) -> None:
    """Raises InputError for an argument that is not UTF-8: the files of a run could not record its path."""
    for argument in arguments:
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise InputError(f"argument {argument!a} is not UTF-8 text: rename the file or folder")


def one_line(error: Exception) -> str:
    """The message of an error without the line breaks that a library or a name may put in it."""
    return " ".join(str(error).split())


def _show_warning(message: Warning | str, category: type[Warning], *location: Any, **options: Any) -> None:
    """Prints a hint about a renamed key as one line, and other warnings in Python's format."""
    if issubclass(category, RenamedWarning):
        print(f"hint: {message}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, *location[:2]), file=sys.stderr, end="")


def quiet_libraries() -> None:
    """Hides log messages and warnings of TorchRec, fbgemm and torch.fx that users cannot act on."""
    for name in (None, "torchrec", "torch.fx._symbolic_trace"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="torchrec")
    warnings.filterwarnings("ignore", message=".*we are deprecating ShardedTensor")
    warnings.filterwarnings("ignore", module="recsys.report|retrieval.evaluation.plots")  # fonts and limits of plots
    warnings.filterwarnings("ignore", message=".*`broadcast_buffers` is deprecated")
    # the tests compare these gradients with those of plain torch
    warnings.filterwarnings("ignore", message=".*an autograd kernel was not registered")
