"""Every injected fault has the expected result; `python -m benchmarks.faults` prints the table."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults.__main__ import faults, inject_fault
from pipelines.common.cli import run_pipeline
from pipelines.common.interrupt import MESSAGE


@pytest.mark.slow
def test_every_fault_gives_a_message_and_loses_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = list(inject_fault(rows=2000, kills=2, interrupts=1, seed=0))
    assert len(found) >= 35
    assert [row for row in found if not row.is_fine] == []


def test_unknown_pipeline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["faults", "--only", "rank", "--only", "ranks"])
    with pytest.raises(SystemExit, match="2"):
        run_pipeline(faults)
    expected = "error: --only must be one of prepare, rank, ensemble, submit, retrieval, got ranks\n"
    assert capsys.readouterr().err == expected


IGNORES_INTERRUPTS = """
import os, signal, sys, time
from pathlib import Path
from benchmarks.faults import result
from benchmarks.faults.forked import run
from benchmarks.faults.started import run_as_user

assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
def interrupt(process):
    os.kill(process.pid, signal.SIGINT)
def interrupt_while_importing(process):
    while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.01)
    interrupt(process)
for outcome in (run("prepare", ["--help"], interrupt), run_as_user(["prepare", "--help"], interrupt_while_importing)):
    print(outcome.outcome)
result.TIMEOUT_S = 1
hang = run(sys.argv[1], [])
print(hang.outcome, hang.has_ended, hang.has_stacks, "in wait_forever" in hang.stderr)
"""


def test_processes_can_be_interrupted_if_the_benchmark_cannot_and_a_hang_shows_its_stacks(tmp_path: Path) -> None:
    (tmp_path / "hang.py").write_text("""import threading
def wait_forever():
    with threading.Lock() as lock:
        threading.Event().wait()
wait_forever()
""")
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.executable, sys.argv[1:])"
    )
    command = [sys.executable, "-c", IGNORES_INTERRUPTS, str(tmp_path / "hang")]
    completed = subprocess.run(
        [sys.executable, "-c", ignoring, *command], capture_output=True, text=True, check=True, timeout=300
    )
    process_line, *lines = sorted(completed.stdout.splitlines(), key=lambda line: not line.startswith("process "))
    assert process_line.endswith(" did not end within 1 s")
    assert lines == [*[f"exit code 130: {MESSAGE}"] * 2, "did not end within 1 s False True True"]
