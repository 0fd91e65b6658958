"""Every command that README, the docs or a config prints is accepted by its program: options, values and settings."""

import importlib
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from gatectr.command import COMMANDS
from pipelines.common import cli
from pipelines.common.config import load_data_config, load_rank_config, load_retrieval_config
from pipelines.common.output_options import with_output_options
from tests.docs.conftest import DOCS, text_of_blocks

ROOT = DOCS.parent
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(DOCS.rglob("*.md")),
    *sorted((ROOT / "configs").glob("*")),
)
PROGRAM = re.compile(r"(?:python -m ((?:pipelines|benchmarks)\.\w+)|torchrun .*?-m (pipelines\.\w+)|gatectr(?= ))(.*)")
SKIPPED = re.compile(r"\.\.\.|gatectr (?:--help|--version|version)|\w+:\w+")
"""Not whole, not of a pipeline, or with code that only its own page has (tests/docs/test_pages.py runs those)."""
FILL = {"$seed": "0", "$model": "dcnv2", "[OPTIONS]": "", "[KEY=VALUE ...]": ""}
"""What stands for the variables of loops."""


def commands_of(page: Path) -> list[str]:
    """The commands of the code blocks of a page, and those that a config or a sentence quotes whole."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".md":
        lines = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#   ")]
    else:
        lines = [line for block in text_of_blocks(text, ("bash", "console")) for line in block.splitlines()]
        lines += [" ".join(quoted.split()) for quoted in re.findall(r"`((?:python -m|gatectr) [^`]* [^`]*)`", text)]
    return [line.strip() for line in lines if PROGRAM.search(line) and not SKIPPED.search(line)]


COMMAND_LINES = [
    pytest.param(line, id=f"{page.relative_to(ROOT)}: {line}")
    for page in PAGES
    for line in dict.fromkeys(commands_of(page))
]


@cache
def function_of(module: str) -> Callable[..., Any]:
    """The function that `python -m MODULE` gives to run_pipeline."""
    given: list[Callable[..., Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "run_pipeline", given.append)
        patch.setattr(typer, "run", given.append)
        patch.setattr(sys, "argv", [module])
        runpy.run_module(module, run_name="__main__", alter_sys=False)
    return with_outputs(given[0])


def with_outputs(function: Callable[..., Any]) -> Callable[..., Any]:
    """With the options of every command, as run_pipeline adds them."""

    def accepted(**options: object) -> None: ...

    vars(accepted)["__signature__"] = with_output_options(function)
    return accepted


def parse(line: str) -> tuple[str, dict[str, Any]]:
    """(module, values of its options) of a command, which is not run."""
    for name, value in FILL.items():
        line = line.replace(name, value)
    found = PROGRAM.search(line)
    assert found
    arguments = shlex.split(found[3], comments=True)
    if module := found[1] or found[2]:
        function = function_of(module)
    else:
        command = next((command for command in COMMANDS if shlex.join(arguments).startswith(command.name)), None)
        assert command, f"gatectr has no command {arguments[0]!r}"
        module, arguments = command.module, arguments[len(command.name.split()) :]
        function = with_outputs(getattr(importlib.import_module(module), command.function))
    app = typer.Typer()
    app.command()(function)
    return module, typer.main.get_command(app).make_context(module, arguments).params


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("line", COMMAND_LINES)
def test_a_printed_command_is_accepted(line: str) -> None:
    module, options = parse(line)
    settings = options.get("overrides") or []
    config = cli.find_config(options.get("config") or cli.TOSS_CONFIG)
    if not config.is_file():
        return
    if module == "pipelines.rank":
        load_rank_config(config, options["model"] or "dcnv2", settings)
    elif module == "pipelines.retrieval":
        load_retrieval_config(cli.find_config(options.get("config") or cli.TOSS_RETRIEVAL_CONFIG), settings)
    elif module == "pipelines.prepare":
        load_data_config(config, settings)


def test_wrong_commands_are_found() -> None:
    for wrong, message in (
        ("python -m pipelines.rank --modell dcnv2", "No such option"),
        ("gatectr submit --scale linear", "is not one of"),
        ("gatectr rank --folds", "requires an argument"),
    ):
        with pytest.raises(Exception, match=message):
            parse(wrong)
