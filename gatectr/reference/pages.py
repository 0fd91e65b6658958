"""Pages of the documentation that are made from the code: the settings, and the diagram of imports."""

import ast
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel

from gatectr.reference.settings import Setting, distinct, settings_of
from pipelines.common.config import sections

_INTERNAL = ("run", "show_sharding")
"""Sections that a run writes, or that only one option reads."""
PACKAGES = ("recsys", "retrieval", "ranking", "pipelines", "gatectr")


def settings_page() -> str:
    """The settings of every section, as Markdown."""
    parts = [
        "# Settings",
        "Every key of a config, from the models that check it. On the command line, a dotted key overrides the config: "
        "`trainer.epochs=3`; keys of the section `retrieval` are given to `gatectr retrieval` without its name. `NAME` "
        "stands for a name that you choose. A default of `auto` follows the size of the data: [defaults by "
        "size](../defaults.md). `gatectr config show` prints these tables, `gatectr config schema` a JSON Schema for "
        "editors.",
    ]
    for name, models in sections().items():
        if models and name not in _INTERNAL:
            parts.append(f"## {name}")
            parts += _of_section(name, models)
    return "\n\n".join(parts) + "\n"


def _of_section(name: str, models: Iterable[type[BaseModel]]) -> list[str]:
    """One table for a section, or one for each model that may be in it."""
    by_model = {model: distinct(settings_of(model, name)) for model in models}
    if len(by_model) == 1:
        return [table(settings) for settings in by_model.values()]
    parts = []
    for model, settings in by_model.items():
        default = model.model_fields["name"].default if "name" in model.model_fields else None
        title = f"`{name}` of `{default}`" if default else f"`{name}`: {model.__name__}"
        parts += [f"### {title}", table(settings)]
    return parts


def table(settings: Iterable[Setting]) -> str:
    """Settings as a Markdown table."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for setting in settings:
        default = f"`{setting.default}`" if setting.default else ""
        cells = (f"`{setting.key}`", setting.type, default, setting.meaning)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def import_graph(root: Path) -> str:
    """The imports between the packages, and between the folders of recsys, as a Mermaid diagram.

    Args:
        root: the folder of the packages.
    """
    edges = sorted(_edges(root))
    nodes = sorted({node for edge in edges for node in edge})
    rooms = [node for node in nodes if node.startswith("recsys.")]
    lines = ["```mermaid", "flowchart TD", "  subgraph recsys"]
    lines += [f"    {_id(node)}[{node.removeprefix('recsys.')}]" for node in rooms]
    lines += ["  end", *(f"  {_id(node)}[{node}]" for node in nodes if node not in rooms and node != "recsys")]
    lines += [f"  {_id(importer)} --> {_id(imported)}" for importer, imported in without_detours(edges)]
    return "\n".join([*lines, "```"])


def _edges(root: Path) -> set[tuple[str, str]]:
    """(importer, imported) for each import between two packages, or two folders of recsys."""
    edges = set()
    for package in PACKAGES:
        for path in (root / package).rglob("*.py"):
            importer = _room(".".join(path.relative_to(root).with_suffix("").parts))
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module:
                    names = [node.module]
                for name in names:
                    if name.split(".")[0] in PACKAGES and (imported := _room(name)) != importer:
                        edges.add((importer, imported))
    return {(a, b) for a, b in edges if not (a.startswith("recsys.") and b == "recsys")}


def _room(module: str) -> str:
    """The package of a module; the folder of one of recsys, `recsys` for its modules on top."""
    parts = module.split(".")
    if parts[0] != "recsys":
        return parts[0]
    is_on_top = len(parts) == 1 or parts[1] in ("errors", "patterns", "config", "defaults", "__init__")
    return "recsys.base" if is_on_top else f"recsys.{parts[1]}"


def without_detours(edges: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Edges of a graph without circles, less those that a longer path implies."""
    targets: dict[str, set[str]] = {}
    for importer, imported in edges:
        targets.setdefault(importer, set()).add(imported)

    def reached(node: str) -> set[str]:
        return targets.get(node, set()).union(*(reached(target) for target in targets.get(node, ())))

    return [
        (importer, imported)
        for importer, direct in sorted(targets.items())
        for imported in sorted(direct)
        if not any(imported in reached(other) for other in direct - {imported})
    ]


def _id(node: str) -> str:
    return node.replace(".", "_")
