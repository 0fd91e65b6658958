"""The command `gatectr`: the pipelines as subcommands, each the same as `python -m pipelines.NAME`.

It imports only the module of its subcommand: `gatectr --help` takes a fraction of a second.
"""

import importlib
import os
import sys
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby

from pipelines.common.start import begin
from recsys.patterns import nearest
from recsys.system.versions import installed_versions


@dataclass(frozen=True)
class Command:
    """A subcommand: where its function is, and its line in `gatectr --help`."""

    name: str
    group: str
    help: str
    module: str
    function: str


COMMANDS = (
    Command(
        "generate", "Data", "Generate data with known click probabilities.", "pipelines.generate", "generate_command"
    ),
    Command("convert", "Data", "Convert a public data set's download to parquet.", "pipelines.convert", "convert"),
    Command("prepare", "Data", "Prepare raw files for training.", "pipelines.prepare", "prepare_command"),
    Command("drift", "Data", "Find the columns that differ in test rows or later days.", "pipelines.drift", "drift"),
    Command("rank", "Models", "Train and evaluate a ranking model.", "pipelines.rank", "rank"),
    Command("retrieval", "Models", "Train a two-tower model and retrieve items.", "pipelines.retrieval", "retrieval"),
    Command("sweep", "Models", "Search a model's settings.", "pipelines.sweep", "sweep"),
    Command("ensemble", "Models", "Stack finished runs into an ensemble.", "pipelines.ensemble", "ensemble"),
    Command("compare", "Results", "Compare finished runs, with intervals.", "pipelines.compare", "compare"),
    Command("importance", "Results", "Measure what each feature is worth.", "pipelines.importance", "importance"),
    Command("submit", "Results", "Score rows and write a submission.", "pipelines.submit", "submit"),
    Command("plan", "Results", "Run all steps and decision gates, to a report.", "pipelines.plan.command", "plan"),
    Command("retrieve", "Serving", "Retrieve items for requests.", "pipelines.retrieve", "retrieve"),
    Command("export", "Serving", "Write a run as one folder that needs no torch.", "pipelines.export", "export"),
    Command("serve", "Serving", "Answer requests over HTTP.", "pipelines.serve", "serve"),
    Command("config show", "Settings", "List keys with type, default, meaning.", "gatectr.config_command", "show"),
    Command("config schema", "Settings", "Write the JSON Schema of configs.", "gatectr.config_command", "schema"),
)
"""Of a pipeline that is added, one line here makes a subcommand."""
TWO_WORDS = {command.name.split()[0] for command in COMMANDS if " " in command.name}


def main() -> None:
    """Runs the subcommand that the first argument names."""
    arguments = sys.argv[1:]
    name = arguments[0] if arguments else "--help"
    if name in ("--help", "-h", "help"):
        print(help_text())
    elif name in ("--version", "version"):
        print(version_text())
    else:
        n_words = 2 if len(arguments) > 1 and name in TWO_WORDS else 1
        run(" ".join(arguments[:n_words]), arguments[n_words:])


def run(name: str, arguments: list[str]) -> None:
    """Runs a subcommand and exits: with code 2 and one line for an unknown one."""
    command = next((command for command in COMMANDS if command.name == name), None)
    if command is None:
        names = [command.name for command in COMMANDS]
        print(f"error: unknown command {name!r}{nearest(name, names)}: gatectr --help lists all", file=sys.stderr)
        raise SystemExit(2)
    begin(command.module)
    sys.path.append(os.getcwd())  # models of the user's own, as with `python -m`
    sys.argv = [name, *arguments]  # as of `python -m pipelines.NAME`, which run folders record
    run_pipeline = importlib.import_module("pipelines.common.cli").run_pipeline
    function = getattr(importlib.import_module(command.module), command.function)
    run_pipeline(function, f"gatectr {name}")


def help_text() -> str:
    """The subcommands, by group."""
    width = max(len(command.name) for command in COMMANDS)
    lines = ["Usage: gatectr COMMAND [OPTIONS] [KEY=VALUE ...]", ""]
    for group, commands in groupby(COMMANDS, lambda command: command.group):
        lines += [f"{group}:", *(f"  {command.name:{width}}  {command.help}" for command in commands), ""]
    lines += [f"  {'version':{width}}  Print the versions of the packages that results depend on.", ""]
    return "\n".join([*lines, "gatectr COMMAND --help lists the options of a command."])


def version_text() -> str:
    """The versions of this package and of those that must match."""
    versions = {"gatectr": version("gatectr"), **installed_versions()}
    return "\n".join(f"{package} {number}" for package, number in versions.items())
