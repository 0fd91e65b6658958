"""Writes a report as one self-contained HTML file with tables and embedded plots."""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True)
class Cell:
    """A table cell; `style` is a CSS class of the template: adopt, reject, retry, pass, fail."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Row:
    """A table row; `style` is empty, strong (bold) or part (the next row continues it)."""

    cells: tuple[Cell, ...]
    style: str = ""


@dataclass(frozen=True)
class Table:
    """A table; `text_columns` are the indices of the columns with sentences, which may wrap."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    caption: str = ""
    text_columns: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plot:
    """A PNG embedded in the page."""

    caption: str
    png: str
    """The bytes of the PNG in base64."""


Block = Table | Plot


@dataclass(frozen=True)
class Section:
    """A section of a report."""

    title: str
    text: str = ""
    blocks: list[Block] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """The HTML id of the section."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


def row(cells: Iterable[str | Cell], style: str = "") -> Row:
    """Builds a table row from texts and cells."""
    return Row(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in cells), style)


def plot(path: Path, caption: str) -> Plot:
    """Reads a plot from its PNG file."""
    return Plot(caption, base64.b64encode(path.read_bytes()).decode())


def write_html(title: str, summary: str, sections: Sequence[Section], path: Path) -> None:
    """Renders a report and writes it atomically.

    Args:
        title: the heading.
        summary: a line below the heading.
        sections: sections in display order; those without blocks are omitted.
        path: the HTML file to write.
    """
    environment = Environment(
        loader=PackageLoader("recsys.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    non_empty_sections = [section for section in sections if section.blocks]
    text = environment.get_template("report.html.jinja").render(
        title=title, summary=summary, sections=non_empty_sections
    )
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
