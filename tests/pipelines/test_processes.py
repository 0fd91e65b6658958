"""`pipelines.rank` in separate processes: killed by SIGKILL, and started by torchrun."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.commands import Run, read_oof

ROOT = Path(__file__).parents[2]
ARGUMENTS = ("--model", "dcnv2", "--config", "config.yaml", "--data", "raw", "--folds", "0,1")


def start(command: Sequence[str], folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_run_resumes_to_the_same_result(project: Path, run: Run) -> None:
    """A run killed in its second epoch ends with the oof.csv and the metrics of an undisturbed run."""
    given = ("rank", *ARGUMENTS, "--out")
    often = ("trainer.checkpoint_every_s=1e-9", "trainer.epochs=4")
    command = ("-u", "-m", "pipelines.rank", *ARGUMENTS, "--out", "killed", *often)
    with start(command, project) as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            if "fold_0  epoch 2/4" in line:
                killed.kill()
    assert killed.returncode == -9
    assert not (project / "killed").exists()

    again = run(*given, "killed", *often)
    assert again.code == 0, again.err
    assert "fold_0  resumes at step" in again.out
    assert run(*given, "whole", *often).code == 0
    assert (project / "killed/oof.csv").read_bytes() == (project / "whole/oof.csv").read_bytes()
    killed_metrics, metrics = (
        json.loads((project / name / "metrics.json").read_text()) for name in ("killed", "whole")
    )
    for part in ("overall", "folds", "segments"):
        assert killed_metrics[part] == metrics[part]
    assert list((project / "killed/ckpt").iterdir()) == [project / "killed/ckpt/fold_0", project / "killed/ckpt/fold_1"]


def test_torchrun(project: Path, run: Run) -> None:
    """Two processes write one run folder and print each line once."""
    same = ("model.dropout=0", "trainer.precision=fp32", "trainer.early_stopping.patience=9")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    with start((*launcher, "-m", "pipelines.rank", *ARGUMENTS, "--out", "two", *same), project) as processes:
        out, err = processes.communicate(timeout=300)
    assert processes.returncode == 0, err
    assert out.count("run folder: two") == 1
    assert out.count("fold_0  epoch 1/3") == 1
    assert "warning" not in err.lower()

    assert run("rank", *ARGUMENTS, "--out", "one", *same).code == 0
    files = [
        sorted(
            str(path.relative_to(project / name)) for path in (project / name).rglob("*") if "tfevents" not in path.name
        )
        for name in ("one", "two")
    ]
    assert [path for path in files[1] if "_1" in path and path not in files[0]] == [
        f"ckpt/{fold}/__1_0.distcp" for fold in ("fold_0", "fold_1")
    ]
    assert len(list((project / "two/tensorboard/fold_0").iterdir())) == 1
    one, two = read_oof(project / "one"), read_oof(project / "two")
    assert [row["row_id"] for row in one] == [row["row_id"] for row in two]
    assert np.allclose([float(r["logit"]) for r in one], [float(r["logit"]) for r in two], atol=1e-4)
    metrics = json.loads((project / "two/metrics.json").read_text())
    assert metrics["train"]["n_processes"] == 2


@pytest.mark.parametrize("error", ["schema.label=clik"])
def test_bad_input_under_torchrun_is_printed_once(project: Path, error: str) -> None:
    command = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pipelines.rank")
    with start((*command, *ARGUMENTS, error), project) as processes:
        _, err = processes.communicate(timeout=300)
    assert processes.returncode != 0
    assert err.count("error: ") == 1
    assert "Traceback" not in err.split("error: ")[0]
