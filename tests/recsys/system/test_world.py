"""Exit of processes started by torchrun."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import atexit, os, torch, torch.distributed as dist

def threads(when):
    names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
    print(when, sum("gloo" in name for name in names) > 0)

atexit.register(threads, "at exit")  # runs after the handlers registered later
from recsys.system.world import join_world

class Model:
    "Refers to the group and to itself."

world, model = join_world(), Model()
dist.all_reduce(torch.ones(3))  # done by a thread of the group, which has named itself before
threads("at work")
model.itself, model.group = model, dist.group.WORLD
del model
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the names of threads from /proc")
def test_threads_of_the_process_group_end_before_exit(tmp_path: Path) -> None:
    """A later thread aborts the process if it frees a tensor after the interpreter has ended."""
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1")
    done = subprocess.run([*torchrun, tmp_path / "script.py"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "at work True\nat exit False\n"
