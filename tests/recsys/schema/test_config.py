from datetime import date, datetime

import pytest
from pydantic import ValidationError

from recsys.schema.config import Condition


def test_values_of_a_condition_are_read_as_their_text() -> None:
    values = ["a", 2, 3.0, 2.5, -1, 10**20, True, False, date(2024, 1, 2), datetime(2024, 1, 2, 3, 4, 5)]
    condition = Condition.model_validate({"column": "action", "values": values})
    assert condition.values == (
        "a",
        "2",
        "3",
        "2.5",
        "-1",
        "1" + 20 * "0",
        "true",
        "false",
        "2024-01-02",
        "2024-01-02T03:04:05",
    )


@pytest.mark.parametrize("value", [None, [1], {"a": 1}])
def test_other_values_say_what_to_write(value: object) -> None:
    with pytest.raises(ValidationError, match="a value of a condition must be text, got .*: write it in quotes"):
        Condition.model_validate({"column": "action", "values": [value]})
