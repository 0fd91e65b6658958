"""The settings of configs: `gatectr config show` lists them, `gatectr config schema` writes their JSON Schema."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from gatectr.reference.json_schema import config_schema
from gatectr.reference.settings import Setting, distinct, settings_of
from pipelines.common.config import sections
from pipelines.common.output import check_file
from ranking.models import config_class, model_names, trainer_class
from ranking.own_model import name_model
from recsys.config import Values
from recsys.errors import InputError
from recsys.own_code import is_path
from recsys.patterns import nearest
from recsys.report.tables import TextRow, text_table
from recsys.system.files import write_json
from recsys.system.progress import console

DEFAULT = ("model", "trainer", "features")


def show(
    model: Annotated[
        str, typer.Option(help=f"Model whose settings to show: {', '.join(model_names())}, or MODULE:CLASS.")
    ] = "dcnv2",
    section: Annotated[
        list[str] | None,
        typer.Option(help=f"Section to show; repeatable; all for all. Default: {', '.join(DEFAULT)}."),
    ] = None,
) -> Values:
    """Show the settings of configs.

    Each line has a dotted key, as on the command line, its type, its default
    and its meaning. NAME in a key stands for a name that you choose. A default
    that is auto follows the size of the data, see docs/defaults.md.
    """
    found = {name: settings_in(name, model) for name in chosen_sections(section)}
    for name, settings in found.items():
        rows = [TextRow((s.key, s.type, s.default, s.meaning)) for s in settings]
        console.print(text_table(name, ("key", "type", "default", "meaning"), rows, n_left=4))
    return {name: [asdict(setting) for setting in settings] for name, settings in found.items()}


def chosen_sections(names: list[str] | None) -> list[str]:
    """The sections to show.

    Raises:
        InputError: for a section that configs do not have.
    """
    known = [name for name, models in sections().items() if models]
    if names == ["all"]:
        return known
    if unknown := [name for name in names or () if name not in known]:
        raise InputError(f"unknown section {unknown[0]!r}{nearest(unknown[0], known)}: choose among {', '.join(known)}")
    return names or list(DEFAULT)


def settings_in(section: str, model: str) -> list[Setting]:
    """The settings of a section; those of `model` and `trainer` for one model.

    Raises:
        InputError: for an unknown model.
    """
    if is_path(model):
        name_model(model)
    kinds: Sequence[type[BaseModel]] = sections()[section]
    if section == "model":
        kinds = [config_class(model)]
    elif section == "trainer":
        kinds = [trainer_class(model)]
    return distinct(setting for kind in kinds for setting in settings_of(kind, section))


def schema(
    out: Annotated[Path | None, typer.Option(help="File to write. Default: standard output.")] = None,
) -> None:
    """Write the JSON Schema of configs, for editors.

    Name the file in a first line of a YAML config, and editors complete keys
    and check values: # yaml-language-server: $schema=FILE
    """
    values = config_schema()
    if out is None:
        print(json.dumps(values, indent=2))
        return
    check_file(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, values)
    console.print(f"JSON Schema of configs written to {out}")
