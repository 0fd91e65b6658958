"""How processes that torchrun started end."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import atexit, os, torch, torch.distributed as dist

def threads(when):
    names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
    print(when, sum("gloo" in name for name in names) > 0)

atexit.register(threads, "at exit")  # runs after what is registered later
from recsys.system.world import join_world

class Model:
    "Refers to the group, and to itself."

world, model = join_world(), Model()
world.all_gather(torch.ones(3))
threads("at work")
model.itself, model.group = model, dist.group.WORLD
del model
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the names of threads from /proc")
def test_no_thread_of_the_group_outlives_the_program(tmp_path: Path) -> None:
    """One that does aborts the process, if it has a tensor to free when the interpreter is gone."""
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1")
    done = subprocess.run([*torchrun, tmp_path / "script.py"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "at work True\nat exit False\n"
