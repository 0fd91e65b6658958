"""Hypothesis strategies for one column of several files, each of which may have another Arrow type."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from tests.helpers.any_values import (
    DYADIC,
    FORMS,
    LARGE,
    NULL,
    SMALL,
    Domain,
    Form,
    Kind,
    Value,
    array,
    domains,
    holds,
    is_exact,
    is_missing,
    meaning,
    moment,
    spellings,
)

Layout = Literal["single", "delimited", "list"]
NAN = float("nan")


@dataclass(frozen=True)
class Part:
    """The entries of a column in one file: values, texts of tokens, or tuples of values."""

    form: Form
    cells: tuple[Any, ...]


@dataclass(frozen=True)
class Column:
    """A column of several files; for lists and delimited text, the form is that of the tokens."""

    name: str
    parts: tuple[Part, ...]
    layout: Layout = "single"

    def rows(self) -> Iterator[tuple[Form, list[Value]]]:
        """Yields the form and the values of each row, in the order of the files."""
        for part in self.parts:
            for cell in part.cells:
                if self.layout == "single":
                    yield part.form, [cell]
                elif self.layout == "list":
                    yield part.form, [value for value in cell or () if not is_missing(value)]
                else:
                    yield part.form, [token for token in (cell or "").split(",") if token.strip()]

    def written(self, index: int) -> pa.Array:
        """Returns the column of one file."""
        part = self.parts[index]
        if self.layout != "list":
            return array(part.form, part.cells)
        flat: list[Value] = []
        offsets = [0]
        for cell in part.cells:
            flat += cell or ()
            offsets.append(len(flat))
        mask = pa.array([cell is None for cell in part.cells])
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), array(part.form, flat), mask=mask)

    def stored(self, index: int) -> str:
        """Returns the name of the column's type in one file as parquet stores it."""
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"c": self.written(index)}), sink)
        return str(pq.read_schema(pa.BufferReader(sink.getvalue())).field("c").type)


def meanings(columns: Sequence[Column]) -> list[list[list[Hashable]]]:
    """Returns the identities of the values of each row, for each of the columns, which share a table."""
    parts = [part for column in columns for part in column.parts]
    width = min((part.form.width for part in parts if part.form.width is not None), default=None)
    reads_numbers = {"number", "text"} <= {part.form.kind for part in parts}
    return [
        [[meaning(form, value, width, reads_numbers) for value in values] for form, values in column.rows()]
        for column in columns
    ]


def moments(column: Column) -> list[tuple[str, Any] | None]:
    """Returns kind and exact value of each row of an order, day or split column."""
    return [moment(form, value) for form, (value,) in column.rows()]


def sometimes(n: int) -> st.SearchStrategy[bool]:
    """True in one of n cases."""
    return st.sampled_from([False] * (n - 1) + [True])


def values_of(form: Form, domain: Domain, has_inexact: bool = False) -> list[Value]:
    """Returns the values of a domain, or texts of them, that a form can hold."""
    if form.kind == domain.kind:
        return [v for v in domain.values if holds(form, v) and (has_inexact or is_exact(form, v))]
    return list(spellings(domain)) if form.kind == "text" else []


def cells(form: Form, values: list[Value], n: int, layout: Layout, has_nulls: bool) -> st.SearchStrategy[tuple]:
    """[n] entries of a column in one file."""
    missing = ([None, NAN] if form.width else [None]) if has_nulls or not values else []
    entry: st.SearchStrategy[Any]
    if layout == "single":
        entry = st.sampled_from([*values, *values, *missing])
    elif layout == "list":
        tokens = st.lists(st.sampled_from([*values, *values, *missing]), max_size=4).map(tuple)
        entry = st.one_of(tokens, tokens, st.none())
    elif form.kind == "null":
        entry = st.none()
    else:
        text = st.lists(st.sampled_from([*values, *values, "", " "]), max_size=4).map(",".join)
        entry = st.one_of(text, text, st.none())
    return st.lists(entry, min_size=n, max_size=n).map(tuple)


@st.composite
def columns(
    draw: st.DrawFn,
    name: str,
    sizes: Sequence[int],
    domain: Domain,
    *,
    layout: Layout = "single",
    text_forms: Sequence[Form] = (),
    has_nulls: bool = True,
) -> Column:
    """A column whose files have types of the domain's kind; sometimes one file has a type of another kind.

    Args:
        draw: of Hypothesis.
        name: the name of the column.
        sizes: number of rows of each file.
        domain: the values.
        layout: one value, delimited text or a list in each row.
        text_forms: forms of text that may stand beside those of the domain's kind.
        has_nulls: whether null, NaN and columns without a type may occur.
    """
    forms = FORMS["text" if layout == "delimited" else domain.kind]
    forms = [*([form for form in forms if values_of(form, domain)] or forms), *text_forms]
    has_inexact = draw(sometimes(12))
    odd_file = draw(st.integers(0, len(sizes) - 1)) if layout != "delimited" and draw(sometimes(8)) else None
    parts = []
    for index, n in enumerate(sizes):
        form = NULL if has_nulls and draw(sometimes(12)) else draw(st.sampled_from(forms))
        values = values_of(form, domain, has_inexact)
        if index == odd_file:
            other = draw(domains(*FORMS))
            form = draw(st.sampled_from(FORMS[other.kind]))
            values = values_of(form, other)
        parts.append(Part(form, draw(cells(form, values, n, layout, has_nulls))))
    return Column(name, tuple(parts), layout)


EXACT_NUMBERS: list[list[Value]] = [[1, 2, 3, 100, -1], [1, 2, 3, *DYADIC], [*SMALL, *LARGE]]
"""Numbers that are the same in each float type that holds them."""
ORDERED: tuple[Kind, ...] = ("number", "naive", "instant")
UNORDERED = Domain("text", ("1", "2", "10", "day1", "1/2/2024", "Monday"))


@st.composite
def order_columns(draw: st.DrawFn, name: str, sizes: Sequence[int], has_nulls: bool = True) -> Column:
    """An order, day or split column: numbers or times, which may be text, and sometimes values without an order."""
    ordered, others = domains(*ORDERED, numbers=EXACT_NUMBERS), domains("boolean", "clock") | st.just(UNORDERED)
    domain = draw(others if draw(sometimes(8)) else ordered)
    text_forms: list[Form] = []
    if domain.kind in ("naive", "instant") and spellings(domain):
        text_forms = FORMS["text"] * draw(st.integers(0, 3))
    return draw(columns(name, sizes, domain, text_forms=text_forms, has_nulls=has_nulls))
