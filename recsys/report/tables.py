"""Tables of text, printed without their empty columns."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

_EMPTY = ("", "-")


@dataclass(frozen=True)
class TextRow:
    """A row of a printed table."""

    cells: Sequence[str]
    style: str | None = None
    """A style of rich: bold, dim, green."""
    ends_section: bool = False
    """Whether a line follows."""


def filled_columns(rows: Sequence[Sequence[str]]) -> list[int]:
    """The indices of the columns with a text other than a dash in some row."""
    n_columns = max((len(cells) for cells in rows), default=0)
    return [index for index in range(n_columns) if any(cells[index] not in _EMPTY for cells in rows)]


def text_table(title: str, columns: Sequence[str], rows: Sequence[TextRow], n_left: int = 1) -> Table:
    """Builds a table without its empty columns.

    Args:
        title: printed above the table.
        columns: the column titles.
        rows: as many cells as columns.
        n_left: number of columns, from the first on, that are aligned to the left.
    """
    table = Table(title=title, title_justify="left")
    shown = filled_columns([row.cells for row in rows]) if rows else list(range(len(columns)))
    for index in shown:
        table.add_column(columns[index], justify="left" if index < n_left else "right")
    for row in rows:
        table.add_row(*[row.cells[index] for index in shown], style=row.style, end_section=row.ends_section)
    return table
