"""Compiled kernels: when they are used, what happens where they fail, and that they change nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recsys.data.batch import Batch
from recsys.data.dataset import PreparedDataset
from recsys.system.world import World
from recsys.training.task import Objective
from recsys.training.update.compiled import Compiled, n_compiled_rows, uses_graphs
from recsys.training.update.graphs import DenseGraphs, UpdateGraph
from tests.helpers.step import Setup
from tests.helpers.training import assert_same, fit, quick, weights_of

CPU, GPU = (World(0, 1, torch.device(name)) for name in ("cpu", "cuda"))


class Fixed(nn.Module):
    fixed_shapes = True


class Dynamic(nn.Module):
    dynamic_shapes = True


class Labels(Objective):
    def __init__(self) -> None:
        super().__init__(Fixed())

    def forward(self, batch: Batch) -> Tensor:
        return batch.label


def test_large_fits_of_fixed_shapes_on_a_gpu_are_compiled() -> None:
    config, million = quick(epochs=5, batch_size=1000), 1_000_000
    assert n_compiled_rows(config, Fixed(), million, GPU) == 1000
    assert n_compiled_rows(config, Fixed(), million - 1, GPU) is None
    assert n_compiled_rows(config, Dynamic(), million, GPU) == 1000
    assert n_compiled_rows(config, nn.Module(), million, GPU) is None
    assert n_compiled_rows(config, Fixed(), million, CPU) is None
    assert n_compiled_rows(config, Fixed(), million, World(0, 3, GPU.device)) == 334


def test_compilation_can_be_asked_for() -> None:
    assert n_compiled_rows(quick(compile="on", batch_size=1000), nn.Module(), 70, CPU) == 70
    assert n_compiled_rows(quick(compile="off", epochs=5), Fixed(), 10**9, GPU) is None


def test_graphs_are_for_a_single_process_with_a_gpu() -> None:
    assert uses_graphs(GPU)
    assert not uses_graphs(CPU)
    assert not uses_graphs(World(0, 2, GPU.device))


def test_failed_compilation_is_one_line(
    small: PreparedDataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def failing(objective: Objective, **options: object) -> Callable[[Batch], Tensor]:
        def run(batch: Batch) -> Any:
            calls.append(len(batch))
            raise RuntimeError("no compiler\nwas found")

        return run

    monkeypatch.setattr(torch, "compile", failing)
    split = small.split("full")
    compiled, batches = Compiled(Labels(), 30), [split.batch(np.arange(n), ()) for n in (30, 20, 30)]
    for batch in batches:
        assert compiled(batch) is batch.label
    assert calls == [30]
    assert capsys.readouterr().out.splitlines() == ["training without compiled kernels: no compiler was found"]


def test_failed_recording_is_one_line_and_changes_nothing(
    small: PreparedDataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embeddings and gradients of the failed attempt are not used."""

    class Refused:
        def __init__(self) -> None:
            raise RuntimeError("capture is not possible\nhere")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Refused)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    weights = []
    for is_graphed in (False, True):
        setup = Setup(small, "dcnv2", precision="fp32")
        setup.batches = 2 * setup.batches
        if is_graphed:
            setup.step._graphs = DenseGraphs(setup.step._forward_and_backward, setup.step._dense)
            setup.optimizers._graph = UpdateGraph(setup.optimizers._update, setup.optimizers.updated)
        weights.append(setup.run())
    assert_same(*weights)
    assert capsys.readouterr().out.splitlines() == ["training without CUDA graphs: capture is not possible"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("loss", [{}, {"self_ensemble": 1.0, "branches": 1.0}], ids=["plain", "both"])
def test_compiled_kernels_train_the_same_model(small: PreparedDataset, tmp_path: Path, loss: dict[str, float]) -> None:
    weights = [
        weights_of(fit(small, "fold_0", quick(epochs=1, compile=compiled, loss=loss), tmp_path / compiled)[0])
        for compiled in ("off", "on")
    ]
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=1e-3), name
