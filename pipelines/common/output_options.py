"""The options --quiet and --json, which every command with results has."""

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from recsys.config import Values
from recsys.system.progress import console

Result = Path | Values | None
"""What a command returns: the results of its run, or the JSON file that holds them; None where it only prints."""

_PANEL = "Output"
_QUIET = Annotated[
    bool, typer.Option("--quiet", help="Print errors and warnings only.", rich_help_panel=_PANEL, show_default=False)
]
_JSON = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print the results as JSON on standard output, and everything else on standard error.",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]


def with_output_options(command: Callable[..., Any]) -> inspect.Signature:
    """The signature of a command with `quiet`, and `as_json` if the command returns results."""
    signature = inspect.signature(command, eval_str=True)
    options = {"quiet": _QUIET} | ({} if signature.return_annotation is None else {"as_json": _JSON})
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [inspect.Parameter(name, keyword, default=False, annotation=kind) for name, kind in options.items()]
    return signature.replace(parameters=[*signature.parameters.values(), *added])


@contextmanager
def output_to(is_quiet: bool, is_json: bool) -> Iterator[None]:
    """Makes the console print nothing, or print on standard error, in the block."""
    before = console.quiet, console.stderr
    console.quiet, console.stderr = is_quiet or before[0], is_json or before[1]
    try:
        yield
    finally:
        console.quiet, console.stderr = before


def print_json(result: Result) -> None:
    """Prints the results of a command as JSON on standard output; null where there are none."""
    if isinstance(result, Path):
        result = json.loads(result.read_text(encoding="utf-8"))
    print(json.dumps(result, indent=2))
