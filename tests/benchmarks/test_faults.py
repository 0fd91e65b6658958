"""Every injected fault has the expected result; `python -m benchmarks.faults` prints the table."""

from pathlib import Path

import pytest

from benchmarks.faults.__main__ import inject_fault


@pytest.mark.slow
def test_every_fault_gives_a_message_and_loses_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = list(inject_fault(rows=2000, kills=2, seed=0))
    assert len(found) >= 30
    assert [row for row in found if not row.is_fine] == []
