"""Hypothesis strategies for schemas: one for each role of columns, without those that split the rows.

The columns have names that occur in no other part of a message.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import chain

import pyarrow as pa
from hypothesis import strategies as st

from recsys.data.groups import PARTITIONS
from tests.helpers.any_case import (
    Case,
    File,
    Refusal,
    exact,
    has_values,
    histories,
    in_time,
    joined,
    one_kind,
    one_table,
    splits_of,
)
from tests.helpers.any_column import (
    Column,
    Part,
    columns,
    meanings,
    moments,
    order_columns,
    sometimes,
    values_of,
)
from tests.helpers.any_values import (
    DAY_NS,
    DYADIC,
    FORMS,
    LARGE,
    Domain,
    Form,
    Kind,
    Value,
    domains,
    holds,
    is_exact,
    meaning,
    spellings,
)


@st.composite
def several_files(draw: st.DrawFn, has_others: bool = True) -> tuple[File, ...]:
    """One to three train files, at most one valid file and one or two test files; or two or three train files."""
    files: list[File] = []
    for split, (least, most) in zip(PARTITIONS, ((1 if has_others else 2, 3), (0, 1), (1, 2)), strict=True):
        if split == "train" or has_others:
            files += [(split, size) for size in draw(st.lists(st.integers(4, 8), min_size=least, max_size=most))]
    return tuple(files)


def sizes_of(files: Sequence[File]) -> list[int]:
    return [n for _, n in files]


ANY: tuple[Kind, ...] = ("number", "number", "number", "text", "instant", "naive", "clock", "boolean")


@st.composite
def as_text(draw: st.DrawFn, domain: Domain, n: int) -> Domain:
    """A domain or, in one of n cases, texts of its values beside texts that are no numbers; rarely texts of times."""
    if not draw(sometimes(n if domain.kind in ("number", "text") else 12)):
        return domain
    return Domain("text", (*spellings(domain), "b", "1a"))


@st.composite
def feature_cases(draw: st.DrawFn) -> Case:
    """A categorical column, which may be the target item."""
    files = draw(several_files())
    ware = draw(columns("ware", sizes_of(files), draw(domains(*ANY))))
    refusals = (*one_table([ware], files), *has_values("ware", meanings([ware])[0], splits_of(files)))
    target = "ware" if draw(st.booleans()) else None
    return Case(files, (ware,), {"categorical": ["ware"], "target_item": target}, refusals)


@st.composite
def shared_cases(draw: st.DrawFn) -> Case:
    """A categorical column and the tokens of lists and of delimited text, which share its table."""
    files = draw(several_files())
    sizes, domain = sizes_of(files), draw(domains(*ANY[:5], "number"))
    table = [draw(columns("ware", sizes, draw(as_text(domain, 4))))]
    has_text = domain.kind in ("number", "text")
    if draw(st.booleans()) if has_text else draw(sometimes(8)):
        table.append(draw(columns("seen", sizes, draw(as_text(domain, 2)), layout="delimited")))
    if len(table) == 1 or draw(st.booleans()):
        bag = draw(domains(*ANY)) if draw(sometimes(8)) else domain
        table.append(draw(columns("bag", sizes, draw(as_text(bag, 4)), layout="list")))
    sequences = {column.name: {"kind": column.layout, "vocabulary": "ware"} for column in table[1:]}
    rows = [[value for values in row for value in values] for row in zip(*meanings(table), strict=True)]
    refusals = (*one_table(table, files), *has_values("ware", rows, splits_of(files)))
    return Case(files, tuple(table), {"categorical": ["ware"], "sequences": sequences}, refusals)


@st.composite
def side_cases(draw: st.DrawFn) -> Case:
    """A key column and a side table with a key and a value for some of the keys."""
    files, domain = draw(several_files()), draw(domains(*ANY))
    buyer = draw(columns("buyer", sizes_of(files), draw(as_text(domain, 4))))
    side_domain = draw(domains(*ANY)) if draw(sometimes(8)) else draw(as_text(domain, 4))
    form = draw(st.sampled_from([f for f in FORMS[side_domain.kind] if values_of(f, side_domain, has_inexact=True)]))
    values = values_of(form, side_domain, has_inexact=draw(sometimes(8)))
    keys = draw(st.permutations(values))[: draw(st.integers(1, 5))]
    keys += [None] if not keys or draw(sometimes(8)) else []
    key = Column("buyer", (Part(form, tuple(keys)),))
    city = draw(columns("city", [len(keys)], draw(domains(*ANY))))
    refusals = [
        *one_table([buyer, key], files),
        *exact(city),
        *has_values("city", joined(buyer, key, city), splits_of(files)),
    ]
    if None in keys:
        refusals.append(Refusal(("buyer",), is_required=False))
    _, by_key = meanings([buyer, key])
    if max(Counter(value for (value,) in by_key).values()) > 1:
        refusals.append(Refusal(("buyer",)))
    side = {"towns": {"file": "side.parquet", "key": "buyer", "columns": ["city"]}}
    return Case(files, (buyer,), {"categorical": ["city"], "side_tables": side}, tuple(refusals), (key, city))


@st.composite
def log_cases(draw: st.DrawFn) -> Case:
    """A history of items by key and order over the files of all splits."""
    files = draw(several_files())
    buyer, ware = (draw(columns(name, sizes_of(files), draw(domains(*ANY)))) for name in ("buyer", "ware"))
    order = draw(order_columns("moment", sizes_of(files)))
    log = {"kind": "log", "key": "buyer", "item": "ware", "order": "moment", "history_until": "row"}
    refusals = [*one_table([buyer], files), *one_table([ware], files), *in_time(order, files, "history")]
    keys, items = meanings([buyer])[0], meanings([ware])[0]
    if not any(refusal.is_required for refusal in refusals):
        steps = histories(keys, moments(order), items)
        rows = [[*item, *chain(*earlier)] for item, earlier in zip(items, steps, strict=True)]
        refusals += has_values("ware", rows, splits_of(files))
    roles = {"categorical": ["ware"], "sequences": {"history": log}}
    return Case(files, (buyer, ware, order), roles, tuple(refusals))


@st.composite
def id_cases(draw: st.DrawFn) -> Case:
    """Ids over the files of all splits: different in all rows, or spoiled in one file."""
    files = draw(several_files())
    kind: Kind = draw(st.sampled_from(["number", "number", "number", "text", "naive", "instant"]))
    forms = [*FORMS[kind], *(FORMS["text"] if kind == "number" and draw(sometimes(4)) else ())]
    unused = [*draw(st.permutations([*range(100), *(LARGE if kind == "number" else [])]))]
    parts: list[Part] = []
    for _, n in files:
        form = draw(st.sampled_from(forms))
        step = DAY_NS if kind in ("naive", "instant") else 1
        taken = [v for v in unused if form.kind == "text" or (holds(form, v * step) and is_exact(form, v * step))][:n]
        unused = [value for value in unused if value not in taken]
        parts.append(Part(form, tuple(str(v) if form.kind == "text" else v * step for v in taken)))
    column = Column("ticket", tuple(draw(spoiled(parts)) if draw(sometimes(2)) else parts))
    ids = [id_of(form, value) for form, (value,) in column.rows()]
    refusals = [replace(refusal, is_required=False) for refusal in one_kind(column, files)]
    counts = Counter(zip(splits_of(files), ids, strict=True))
    if max(counts.values()) > 1 or None in ids:
        refusals.append(Refusal(("ticket",)))
    if any(isinstance(identity, tuple) and identity[0] in ("boolean", "number") for identity in ids):
        refusals.append(Refusal(("ticket",), is_required=False))
    return Case(files, (column,), {"id": "ticket"}, tuple(refusals))


@st.composite
def spoiled(draw: st.DrawFn, parts: list[Part]) -> list[Part]:
    """Ids of which one is null or an id of another file, as text or as in that file; or a file without whole ids."""
    index, other = (draw(st.integers(0, len(parts) - 1)) for _ in range(2))
    form, entries = parts[index].form, parts[index].cells
    change = draw(st.sampled_from(["null", "repeat", "repeat", "text", "text", "boolean", "fraction"]))
    if change == "null":
        entries = (None, *entries[1:])
    elif change == "repeat" and (same := [value for value in parts[other].cells if _is_of(form, value)]):
        entries = (*entries[:-1], same[0])
    elif change == "text" and parts[other].form.kind in ("number", "text"):
        form, entries = FORMS["text"][0], (f" {parts[other].cells[0]}", *(f"t{row}" for row in range(1, len(entries))))
    elif change == "boolean":
        form, entries = FORMS["boolean"][0], tuple(row % 2 == 0 for row in range(len(entries)))
    elif change == "fraction":
        form, entries = Form("number", pa.float64()), tuple(Decimal(row) + DYADIC[0] for row in range(len(entries)))
    return [Part(form, entries) if position == index else part for position, part in enumerate(parts)]


def _is_of(form: Form, value: Value) -> bool:
    return isinstance(value, str) == (form.kind == "text") and holds(form, value) and is_exact(form, value)


def id_of(form: Form, value: Value) -> Hashable:
    """Returns the identity of an id: text of text and of whole numbers; None for a missing id."""
    identity = meaning(form, value)
    if not isinstance(identity, tuple):
        return None
    kind, content = identity
    return str(content) if kind == "text" or (kind == "number" and isinstance(content, int)) else identity
