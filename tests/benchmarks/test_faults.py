"""Every fault ends as it should; `python -m benchmarks.faults` shows the table."""

from pathlib import Path

import pytest

from benchmarks.faults.__main__ import bring_about


@pytest.mark.slow
def test_every_fault_ends_in_a_clear_message_and_nothing_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = list(bring_about(rows=2000, kills=2, seed=0))
    assert len(found) >= 30
    assert [row for row in found if not row.is_fine] == []
