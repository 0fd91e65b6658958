"""Random folds whose labels reach other folds through histories are warned of."""

import pytest

from recsys.schema.config import SchemaConfig
from recsys.schema.leaks import warning_of_label_histories
from recsys.schema.resolved import resolve_schema

LOG = {"kind": "log", "key": "buyer", "item": "ware", "order": "at"}


@pytest.mark.parametrize(
    ("where", "user", "by_user", "is_leak"),
    [
        ({"column": "click", "min": 1}, None, False, True),
        ({"column": "click", "min": 1}, "buyer", False, True),
        ({"column": "click", "min": 1}, "session", True, True),
        ({"column": "click", "min": 1}, "buyer", True, False),
        ({"column": "ware", "values": ["a"]}, None, False, False),
        (None, None, False, False),
    ],
)
def test_histories_that_read_the_label_need_folds_by_their_key(
    where: dict | None, user: str | None, by_user: bool, is_leak: bool
) -> None:
    roles = {"label": "click", "user": user, "categorical": ["ware"], "sequences": {"clicked": LOG | {"where": where}}}
    schema = resolve_schema(SchemaConfig.model_validate(roles), ["click", "buyer", "session", "ware", "at"])
    warning = warning_of_label_histories(schema, by_user)
    assert (warning is not None) == is_leak
    if warning is not None:
        assert "schema.sequences.clicked reads the label (column 'click')" in warning
        assert "Set schema.user to 'buyer', or evaluate with --folds forward" in warning


@pytest.mark.parametrize(
    ("encodings", "by_user", "is_leak"),
    [
        ({"ware": ["past_ctr"]}, True, True),
        ({"ware": ["past_count"]}, False, False),
        ({"buyer": ["past_ctr"]}, False, True),
        ({"buyer": ["past_ctr"], "buyer*ware": ["past_ctr"]}, True, False),
    ],
)
def test_rates_of_earlier_rows_need_folds_by_their_user(encodings: dict, by_user: bool, is_leak: bool) -> None:
    roles = {"label": "click", "user": "buyer", "categorical": ["buyer", "ware"], "encodings": encodings}
    config = SchemaConfig.model_validate(roles | {"encodings_past": {"order": "at"}})
    warning = warning_of_label_histories(resolve_schema(config, ["click", "buyer", "ware", "at"]), by_user)
    assert (warning is not None) == is_leak
    assert warning is None or "Evaluate with --folds forward" in warning
