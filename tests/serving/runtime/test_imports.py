"""The runtime and the server run where torch is not installed, and start at once."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.runtime.bundle import Bundle

ROOT = Path(__file__).parents[3]
MAX_CPU_S = {"dcnv2": 2.0, "gbdt": 4.0}
"""LightGBM imports scikit-learn and pandas."""


@pytest.mark.parametrize("model", list(MAX_CPU_S))
def test_a_bundle_loads_soon_and_without_torch(model: str, bundle_of: Callable[[str], Bundle]) -> None:
    """Processor time of the process, which other programs do not change."""
    code = f"""
import sys, time
class Missing:
    def find_spec(self, name, *_):
        if name in ("torch", "torchrec", "fbgemm_gpu"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from pathlib import Path
from serving.runtime.bundle import Bundle
bundle = Bundle.load(Path({str(bundle_of(model).folder)!r}), n_threads=1)
print(time.process_time())
example = bundle.example()
assert len(bundle.score(example["candidates"], example["user"]).p) == len(example["candidates"])
import serving.server.run, pipelines.serve
"""
    command = [sys.executable, "-c", code, "pipelines.serve"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < MAX_CPU_S[model]
