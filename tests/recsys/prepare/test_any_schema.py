"""Any types of the columns of several files meet as a join of plain Python values says, or give a one-line error.

Hypothesis generates schemas and files whose values are known; each test takes the columns of one role.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys.data.config import PrepareConfig
from recsys.data.dataset import PreparedDataset
from recsys.data.groups import PARTITIONS
from recsys.errors import InputError
from recsys.prepare.run import prepare
from tests.helpers.any_case import Case, Rows, days, histories, joined, may_refuse, must_refuse
from tests.helpers.any_column import meanings, moments
from tests.helpers.any_schema import feature_cases, id_cases, id_of, log_cases, shared_cases, side_cases
from tests.helpers.any_split import day_cases, last_out_cases, named_split_cases, time_split_cases

MISSING, RARE = 0, 1
number_of_cases = pytest.mark.parametrize("n_cases", [25, pytest.param(250, marks=pytest.mark.slow)])


def check_cases(
    cases: st.SearchStrategy[Case], check: Callable[[PreparedDataset, Case], None], folder: Path, n_cases: int
) -> None:
    """Prepares generated cases and checks those that are not refused."""

    @settings(
        max_examples=n_cases,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def check_case(case: Case) -> None:
        found = prepared(case, folder / "case")
        if isinstance(found, str):
            assert may_refuse(case), found
            assert any(all(word in found for word in refusal.words) for refusal in case.refusals), found
            return
        assert not must_refuse(case), case.refusals
        for split in PARTITIONS:
            rows = [row for row, name in enumerate(case.splits) if name == split]
            assert sorted(found.partition_rows(split).numbers().tolist()) == rows, split
        check(found, case)

    check_case()


def prepared(case: Case, folder: Path) -> PreparedDataset | str:
    """Returns the prepared data set, or the error message without the folder's name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    files = case.write(folder)
    try:
        prepare(case.schema, files, PrepareConfig(min_count=1, n_folds=2), folder, folder / "out", "any")
        return PreparedDataset.open(folder / "out")
    except InputError as error:
        message = str(error).replace(str(folder), "")
    assert message.strip()
    assert "\n" not in message
    return message


def all_rows(dataset: PreparedDataset) -> np.ndarray:
    return np.arange(dataset.n_rows)


def codes_of(dataset: PreparedDataset, name: str) -> list[list[int]]:
    """Returns the codes of each row of a categorical column or a token sequence."""
    rows, schema = all_rows(dataset), dataset.manifest.schema_
    if name in schema.categorical:
        return dataset.store.read_sparse(rows)[:, [schema.categorical.index(name)]].tolist()
    codes, lengths = dataset.store.read_tokens(name, rows)
    return [part.tolist() for part in np.split(codes, np.cumsum(lengths)[:-1])]


def check_codes(dataset: PreparedDataset, table: str, features: dict[str, Rows]) -> dict[Hashable, int]:
    """Checks that values of all features of a table share a code exactly if they are equal; returns the codes."""
    codes = {name: codes_of(dataset, name) for name in features}
    assert all([*map(len, codes[name])] == [*map(len, rows)] for name, rows in features.items())
    trained = {
        value
        for rows in features.values()
        for row in dataset.partition_rows("train").numbers()
        for value in rows[row]
        if value is not None
    }
    code_of: dict[Hashable, int] = {}
    for name, rows in features.items():
        for values, row_codes in zip(rows, codes[name], strict=True):
            for value, code in zip(values, row_codes, strict=True):
                if value is None:
                    assert code == MISSING, name
                elif value not in trained:
                    assert code == RARE, (name, value)
                else:
                    assert code > RARE, (name, value)
                    assert code_of.setdefault(value, code) == code, (name, value)
    assert len(set(code_of.values())) == len(code_of) == len(dataset.vocabularies[table].values), code_of
    check_texts(dataset, table, code_of)
    return dict.fromkeys([value for rows in features.values() for row in rows for value in row], RARE) | code_of


def check_texts(dataset: PreparedDataset, table: str, code_of: dict[Hashable, int]) -> None:
    """Checks the text of whole numbers and of texts."""
    texts = dataset.vocabularies[table].values.to_pylist()
    for value, code in code_of.items():
        assert isinstance(value, tuple)
        if value[0] == "text" or (isinstance(value[1], int) and value[0] == "number"):
            assert texts[code - 2] == str(value[1])


@number_of_cases
def test_values_of_a_column_meet_over_files(tmp_path: Path, n_cases: int) -> None:
    def check(dataset: PreparedDataset, case: Case) -> None:
        rows = meanings(case.columns)[0]
        check_codes(dataset, "ware", {"ware": rows})
        if case.roles["target_item"] is not None:
            check_items(dataset, [value for (value,) in rows])

    check_cases(feature_cases(), check, tmp_path, n_cases)


def check_items(dataset: PreparedDataset, values: Sequence[Hashable]) -> None:
    """Checks that the target items of all rows are numbered by value."""
    items = dataset.store.items(all_rows(dataset)).tolist()
    assert [item < 0 for item in items] == [value is None for value in values]
    pairs = {(value, item) for value, item in zip(values, items, strict=True) if value is not None}
    assert len(pairs) == len({value for value, _ in pairs}) == len({item for _, item in pairs})
    assert len(dataset.store.item_names) == len(set(dataset.store.item_names.to_pylist())) == len(pairs)


@number_of_cases
def test_values_and_tokens_of_a_table_meet(tmp_path: Path, n_cases: int) -> None:
    def check(dataset: PreparedDataset, case: Case) -> None:
        names = [column.name for column in case.columns]
        check_codes(dataset, "ware", dict(zip(names, meanings(case.columns), strict=True)))

    check_cases(shared_cases(), check, tmp_path, n_cases)


@number_of_cases
def test_side_tables_meet_the_rows_by_value(tmp_path: Path, n_cases: int) -> None:
    def check(dataset: PreparedDataset, case: Case) -> None:
        check_codes(dataset, "city", {"city": joined(case.columns[0], *case.side)})

    check_cases(side_cases(), check, tmp_path, n_cases)


@number_of_cases
def test_histories_hold_earlier_items_of_the_same_key(tmp_path: Path, n_cases: int) -> None:
    def check(dataset: PreparedDataset, case: Case) -> None:
        buyer, ware, order = case.columns
        keys, items = meanings([buyer])[0], meanings([ware])[0]
        steps = histories(keys, moments(order), items)
        found = codes_of(dataset, "history")
        for codes, earlier in zip(found, steps, strict=True):
            assert len(codes) == sum(map(len, earlier))
        assert dataset.store.sequence_lengths("history", all_rows(dataset)).tolist() == [*map(len, found)]
        # Rows of equal order are in an order of their own: sort both sides within each order.
        flat = [[value for ties in earlier for value in ties] for earlier in steps]
        code_of = check_trained(dataset, items, flat)
        for codes, earlier in zip(found, steps, strict=True):
            start = 0
            for ties in earlier:
                assert Counter(codes[start : start + len(ties)]) == Counter(code_of[value] for value in ties)
                start += len(ties)

    check_cases(log_cases(), check, tmp_path, n_cases)


def check_trained(dataset: PreparedDataset, items: Rows, steps: Rows) -> dict[Hashable, int]:
    """Checks the codes of items, which are trained by rows and by histories; returns them."""
    train = dataset.partition_rows("train").numbers().tolist()
    trained = {value for row in train for value in (*items[row], *steps[row])} - {None}
    code_of: dict[Hashable, int] = {}
    for (value,), (code,) in zip(items, codes_of(dataset, "ware"), strict=True):
        assert (code == MISSING) == (value is None)
        assert (code > RARE) == (value in trained), value
        assert code_of.setdefault(value, code) == code, value
    assert len({code for code in code_of.values() if code > RARE}) == len(trained)
    check_texts(dataset, "ware", {value: code for value, code in code_of.items() if code > RARE})
    return code_of


@number_of_cases
def test_the_last_rows_of_a_key_are_left_out(tmp_path: Path, n_cases: int) -> None:
    check_cases(last_out_cases(), lambda dataset, case: None, tmp_path, n_cases)


@number_of_cases
def test_ids_are_unique_by_value(tmp_path: Path, n_cases: int) -> None:
    def check(dataset: PreparedDataset, case: Case) -> None:
        ids = dataset.store.row_ids(all_rows(dataset)).to_pylist()
        for name, (form, (value,)) in zip(ids, case.columns[0].rows(), strict=True):
            identity = id_of(form, value)
            assert not isinstance(identity, str) or name.strip() == identity
        assert len(set(zip(case.splits, ids, strict=True))) == len(ids)

    check_cases(id_cases(), check, tmp_path, n_cases)


@number_of_cases
def test_days_follow_the_calendar(tmp_path: Path, n_cases: int) -> None:
    def check(dataset: PreparedDataset, case: Case) -> None:
        expected = [day for day in days(case.columns[0]) if day is not None]
        ranks = {day: rank for rank, day in enumerate(sorted(set(expected)))}
        assert dataset.store.days(all_rows(dataset)).tolist() == [ranks[day] for day in expected]
        assert (dataset.manifest.holdout_day is None) == (len(ranks) == 1)
        n_last = sum(group.n_rows for group in dataset.groups if group.is_holdout)
        assert n_last == (expected.count(max(expected)) if len(ranks) > 1 else 0)

    check_cases(day_cases(), check, tmp_path, n_cases)


@number_of_cases
def test_times_split_the_rows(tmp_path: Path, n_cases: int) -> None:
    check_cases(time_split_cases(), lambda dataset, case: None, tmp_path, n_cases)


@number_of_cases
def test_names_split_the_rows(tmp_path: Path, n_cases: int) -> None:
    check_cases(named_split_cases(), lambda dataset, case: None, tmp_path, n_cases)
