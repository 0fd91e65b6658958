"""Writes a report as one self-contained HTML file with tables and embedded plots."""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from recsys.report.tables import filled_columns


@dataclass(frozen=True)
class Cell:
    """A table cell; `style` is a CSS class of the template: adopt, keep, reject, retry, pass, kept, fail."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Row:
    """A table row; `style` is empty, strong (bold), dim or part (the next row continues it)."""

    cells: tuple[Cell, ...]
    style: str = ""


@dataclass(frozen=True)
class Table:
    """A table; `text_columns` are the indices of the columns with sentences, which may wrap."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    caption: str = ""
    text_columns: tuple[int, ...] = ()

    @property
    def is_sortable(self) -> bool:
        """Whether a click on a heading sorts the rows: none of several rows belongs to another one."""
        return len(self.rows) > 2 and not any(row.style == "part" for row in self.rows)

    @property
    def is_stacked(self) -> bool:
        """Whether a narrow screen shows the cells of a row below each other: a few of them, one with sentences."""
        return len(self.columns) <= 3 and bool(self.text_columns)

    def without_empty_columns(self) -> "Table":
        """The table without the columns whose cells are all empty."""
        shown = filled_columns([[cell.text for cell in row.cells] for row in self.rows])
        return Table(
            tuple(self.columns[index] for index in shown),
            tuple(Row(tuple(row.cells[index] for index in shown), row.style) for row in self.rows),
            self.caption,
            tuple(position for position, index in enumerate(shown) if index in self.text_columns),
        )


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
        sections: sections in display order; those without blocks are omitted, and so are empty columns of tables.
        path: the HTML file to write.
    """
    environment = Environment(
        loader=PackageLoader("recsys.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    non_empty_sections = [
        replace(
            section,
            blocks=[b.without_empty_columns() if isinstance(b, Table) else b for b in section.blocks],
        )
        for section in sections
        if section.blocks
    ]
    text = environment.get_template("report.html.jinja").render(
        title=title, summary=summary, sections=non_empty_sections
    )
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
