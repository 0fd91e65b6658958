"""Hypothesis strategies for schemas that split the rows: by key and order, by day, by time and by name."""

from collections.abc import Hashable
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from recsys.data.groups import PARTITIONS, Partition
from tests.helpers.any_case import (
    Case,
    Refusal,
    both_classes,
    days,
    has_both_classes,
    in_time,
    last_out,
    one_kind,
    one_table,
    zone_of,
)
from tests.helpers.any_column import ORDERED, Column, Part, columns, meanings, moments, order_columns, sometimes
from tests.helpers.any_schema import ANY, several_files, sizes_of
from tests.helpers.any_values import DAYS, Domain, domains, iso_texts, utc_of

MIN_ROWS = 3
MAX_DAY = 10**9
"""Numbers from here on may be refused as days: they are seconds or so."""


@st.composite
def last_out_cases(draw: st.DrawFn) -> Case:
    """Train files whose last rows by key and order are valid and test; one row of either class has no key."""
    files = draw(several_files(has_others=False))
    buyer = draw(columns("buyer", sizes_of(files), draw(domains(*ANY))))
    first, *others = buyer.parts
    buyer = Column("buyer", (Part(first.form, (None, None, *first.cells[2:])), *others))
    order = draw(order_columns("moment", sizes_of(files)))
    refusals = (*one_table([buyer], files), *in_time(order, files, "schema.split"))
    is_wrong = any(refusal.is_required for refusal in refusals)
    splits = () if is_wrong else last_out(meanings([buyer])[0], moments(order), MIN_ROWS)
    roles = {"split": {"key": "buyer", "order": "moment", "min_rows": MIN_ROWS}}
    return Case(files, (buyer, order), roles, refusals, partitions=splits)


@st.composite
def day_cases(draw: st.DrawFn) -> Case:
    """Train files with the day or the time of each row."""
    files = draw(several_files(has_others=False))
    day = draw(order_columns("moment", sizes_of(files), has_nulls=draw(sometimes(10))))
    refusals = in_time(day, files, "moment")
    if None in days(day):
        refusals.append(Refusal(("moment",)))
    if any(value is not None and value[0] == "number" and abs(value[1]) >= MAX_DAY for value in moments(day)):
        refusals.append(Refusal(("moment", "not days"), is_required=False))
    return Case(files, (day,), {"day": "moment"}, tuple(refusals))


@st.composite
def time_split_cases(draw: st.DrawFn) -> Case:
    """Train files whose rows are valid and test from some times on."""
    files = draw(several_files(has_others=False))
    column = draw(order_columns("moment", sizes_of(files), has_nulls=draw(sometimes(10))))
    refusals, values = in_time(column, files, "moment"), moments(column)
    if None in values:
        refusals.append(Refusal(("moment",)))
    kinds = {value[0] for value in values if value is not None}
    choices = sorted({value for value in values if value is not None and value[0] in ORDERED}) or [("number", 0)]
    # Most cases keep both classes before the first start.
    choices = [start for start in choices if has_both_classes(files, values, start)] or choices
    starts = draw(st.lists(st.sampled_from(choices), min_size=1, max_size=2, unique=True))
    if draw(sometimes(8)):
        starts[-1] = draw(st.sampled_from([("number", 1), ("naive", DAYS[1]), ("instant", DAYS[1])]))
    written = [draw(thresholds(start, zone_of(column) if kinds == {"instant"} else None)) for start in sorted(starts)]
    is_other = any(kind != start[0] for kind in kinds for _, start in written)
    if is_other or any(kind == "naive" or abs(value) >= 2**53 for kind, value in starts):
        refusals += [Refusal((word,), is_required=is_other) for word in ("moment", "test_from", "valid_from")]
    roles = {"column": "moment", "test_from": written[-1][0], "valid_from": written[0][0] if starts[1:] else None}
    splits: tuple[Partition, ...] = ()
    if not any(refusal.is_required for refusal in refusals):
        partitions = PARTITIONS if starts[1:] else (PARTITIONS[0], PARTITIONS[-1])
        bounds = [start for _, start in written]
        for value in values:
            later = [n for n, start in enumerate(bounds, 1) if value is not None and value >= start]
            splits = (*splits, partitions[max(later, default=0)])
        refusals += both_classes(files, splits)
        refusals += [Refusal(("moment", "no row is")) for partition in partitions if partition not in splits]
    return Case(files, (column,), {"split": roles}, tuple(refusals), partitions=splits)


@st.composite
def thresholds(draw: st.DrawFn, start: tuple[str, Any], zone: str | None) -> tuple[float | str, tuple[str, Any]]:
    """A time as a config has it, and the time that was written: rounded where a float or text has fewer digits.

    Args:
        draw: of Hypothesis.
        start: the time.
        zone: the zone of the column, which a time without one is in; None if the column has none.
    """
    kind, value = start
    if kind == "number":
        return float(value), ("number", Fraction(float(value)))
    rounded = value // 1000 * 1000
    texts = iso_texts(rounded, draw(st.sampled_from(("Z", "+09:00"))) if kind == "instant" else "")
    text = draw(st.sampled_from([text for text in texts if text == text.strip()]))
    return text, (kind, rounded) if kind == "instant" or zone is None else ("instant", utc_of(rounded, zone))


@st.composite
def named_split_cases(draw: st.DrawFn) -> Case:
    """Train files with the name of each row's split."""
    files = draw(several_files(has_others=False))
    names = Domain("text", ("train", "train", "train", " train", "valid", "test ", "test"))
    column = draw(columns("portion", sizes_of(files), names, has_nulls=draw(sometimes(10))))
    by_identity: dict[Hashable, Partition] = {("text", name): name for name in PARTITIONS}
    found = [by_identity.get(value) for (value,) in meanings([column])[0]]
    splits = tuple(split for split in found if split is not None)
    refusals = one_kind(column, files)
    refusals += both_classes(files, splits) if len(splits) == len(found) else [Refusal(("portion",))]
    return Case(files, (column,), {"split": "portion"}, tuple(refusals), partitions=splits)
