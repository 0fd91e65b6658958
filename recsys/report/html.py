"""A report as one HTML file that needs nothing else: tables, and plots within it."""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True)
class Cell:
    """What stands in a table's cell; `style` is a class of the template: adopt, reject, retry, pass, fail."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Row:
    """A row; strong stands out, part goes with the row above."""

    cells: tuple[Cell, ...]
    style: str = ""


@dataclass(frozen=True)
class Table:
    """A table. `text_columns` are those that hold sentences and may wrap."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    caption: str = ""
    text_columns: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plot:
    """A PNG, kept within the page."""

    caption: str
    png: str
    """Its bytes in base64."""


Block = Table | Plot


@dataclass(frozen=True)
class Section:
    """A part of a report."""

    title: str
    text: str = ""
    blocks: list[Block] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """What links to it."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


def row(cells: Iterable[str | Cell], style: str = "") -> Row:
    """A table's row of texts and cells."""
    return Row(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in cells), style)


def plot(path: Path, caption: str) -> Plot:
    """A plot from its file."""
    return Plot(caption, base64.b64encode(path.read_bytes()).decode())


def write_html(title: str, summary: str, sections: Sequence[Section], path: Path) -> None:
    """Writes a report in one piece.

    Args:
        title: its heading.
        summary: a line below it.
        sections: in their order; those without blocks are left out.
        path: the HTML file.
    """
    environment = Environment(
        loader=PackageLoader("recsys.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    shown = [section for section in sections if section.blocks]
    text = environment.get_template("report.html.jinja").render(title=title, summary=summary, sections=shown)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
