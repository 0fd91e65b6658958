from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys.errors import InputError
from recsys.runs.submission import ScoredRows, SubmissionWriter


def test_a_score_that_is_not_finite_names_its_row() -> None:
    with pytest.raises(InputError, match="the row with the id 'b' has no finite score"):
        ScoredRows(0.0).add(pa.array(["a", "b"]), np.array([0.0, np.nan]))


@pytest.mark.parametrize(("names", "header"), [(("id", "p"), "id,p"), (("i,d", 'p"q'), '"i,d","p""q"')])
def test_a_header_is_quoted_if_it_has_to_be(tmp_path: Path, names: tuple[str, str], header: str) -> None:
    with SubmissionWriter(tmp_path / "s.csv", names, None, "natural", 0.0) as writer:
        writer.add(pa.array(["a"]), np.array([0.0]))
    assert (tmp_path / "s.csv").read_text() == f'{header}\n"a",0.5\n'
