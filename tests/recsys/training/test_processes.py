"""The same fits with one process and with two under torchrun."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys.data.dataset import PreparedDataset
from recsys.system.world import join_world
from tests.helpers.small import prepare_small, small_schema, small_table
from tests.recsys.training import sharded_fits
from tests.recsys.training.sharded_fits import LAYOUTS

TORCHRUN = (sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """one/ and two/: the outputs of one and of two processes by task; each resumes the other's checkpoint."""
    folder = tmp_path_factory.mktemp("fits")
    weight = np.random.default_rng(0).exponential(size=2000)  # losses are weighted means over all processes
    table, schema = small_table().append_column("weight", [weight]), small_schema(weight="weight")
    prepare_small(table, folder / "raw", folder / "prepared", schema)
    dataset, world = PreparedDataset.open(folder / "prepared"), join_world()
    for task in ("fit", "linear", "kill", "resume"):
        for size in ("one", "two"):
            (folder / size / task).mkdir(parents=True)
    sharded_fits.fit_all(dataset, folder / "one" / "fit", world)
    sharded_fits.fit_linear(dataset, folder / "one" / "linear", world)
    sharded_fits.kill(dataset, folder / "one" / "kill", world)

    shutil.copytree(folder / "one/kill", folder / "two/resume", dirs_exist_ok=True)
    module = (
        "-m",
        "tests.recsys.training.sharded_fits",
        folder / "prepared",
        folder / "two",
        "fit",
        "linear",
        "kill",
        "resume",
    )
    done = subprocess.run([*TORCHRUN, *map(str, module)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-5000:]

    shutil.copytree(folder / "two/kill", folder / "one/resume", dirs_exist_ok=True)
    sharded_fits.resume(dataset, folder / "one" / "resume", world)
    return folder


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "column_wise"])
def test_one_and_two_processes_learn_the_same(fits: Path, layout: str) -> None:
    one, two = (read(fits / size / "fit" / "results.json")["results"][layout] for size in ("one", "two"))
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-6)
    assert np.allclose(one["logits"], two["logits"], atol=1e-5)
    assert np.std(one["logits"]) > 0.3


def test_the_linear_part_is_the_same_on_one_and_two_processes(fits: Path) -> None:
    """Its tables are sharded; the shares are chosen on the same logits."""
    one, two = (read(fits / size / "linear" / "linear.json") for size in ("one", "two"))
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-6)
    assert two["shares"] == one["shares"]
    assert one["shares"][-1] > 0
    assert np.allclose(one["logits"], two["logits"], atol=1e-4)


def test_column_wise_losses_nearly_agree(fits: Path) -> None:
    """Each column-wise shard has its own Adagrad sum: the same gradients, other learning rates."""
    one, two = (read(fits / size / "fit" / "results.json")["results"]["column_wise"] for size in ("one", "two"))
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-3)


def test_losses_do_not_depend_on_the_sharding(fits: Path) -> None:
    """All fused layouts update the same weights by the same rule."""
    results = read(fits / "two" / "fit" / "results.json")["results"]
    assert results["row_wise"]["losses"] == pytest.approx(results["table_wise"]["losses"], rel=1e-6)


def test_tables_have_the_configured_sharding(fits: Path) -> None:
    plans = read(fits / "two" / "fit" / "results.json")["plans"]
    for layout in ("table_wise", "row_wise", "column_wise"):
        assert set(plans[layout].values()) == {layout}
        assert len(plans[layout]) == 4  # three pooled tables and one of events
    assert set(plans["copied"].values()) == {"data_parallel"}
    assert set(plans["mixed"].values()) == {"data_parallel", "row_wise", "table_wise"}


@pytest.mark.parametrize("size", ["one", "two"])
def test_a_checkpoint_of_another_number_of_processes_resumes(fits: Path, size: str) -> None:
    whole = read(fits / "one" / "fit" / "results.json")["results"]["mixed"]
    resumed = read(fits / size / "resume" / "resumed.json")
    assert resumed["losses"] == pytest.approx(whole["losses"], rel=1e-6)
    assert np.allclose(whole["logits"], resumed["logits"], atol=1e-5)
