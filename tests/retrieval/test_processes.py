"""The same towers fitted with one process and with two, which share their in-batch negatives."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recsys.data.dataset import PreparedDataset
from recsys.system.world import join_world
from tests.helpers.small import prepare_small, small_schema
from tests.helpers.towers import tower_schema, tower_table
from tests.retrieval import sharded_towers

TORCHRUN = (sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """one/ and two/: the outputs of one and of two processes."""
    folder = tmp_path_factory.mktemp("fits")
    prepare_small(tower_table(1500), folder / "raw", folder / "prepared", small_schema(**tower_schema()))
    for size in ("one", "two"):
        (folder / size).mkdir()
    sharded_towers.fit_all(PreparedDataset.open(folder / "prepared"), folder / "one", join_world())
    module = ("-m", "tests.retrieval.sharded_towers", folder / "prepared", folder / "two")
    done = subprocess.run([*TORCHRUN, *map(str, module)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


@pytest.mark.parametrize("layout", sharded_towers.LAYOUTS)
def test_negatives_are_gathered_across_processes(fits: Path, layout: str) -> None:
    one, two = (json.loads((fits / size / "results.json").read_text())[layout] for size in ("one", "two"))
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert np.allclose(one["items"], two["items"], atol=1e-4)
    assert np.allclose(one["requests"], two["requests"], atol=1e-4)
