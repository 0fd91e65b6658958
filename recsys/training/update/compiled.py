"""The losses of a batch by compiled kernels, which fuse elementwise operations between the matrix products.

Shapes: B rows of a batch.
"""

import torch
from torch import Tensor, nn

from recsys.data.batch import Batch
from recsys.nn.traits import has_fixed_shapes, is_compiled_by_default
from recsys.system.progress import console
from recsys.system.world import World
from recsys.training.config import FitConfig
from recsys.training.task import Objective

_WORTHWHILE_ROWS = 5_000_000
"""Rows read in training from which the time for compilation is won back; see `python -m benchmarks.gpu`."""


def n_compiled_rows(config: FitConfig, model: nn.Module, n_rows: int, world: World) -> int | None:
    """Returns the rows of the batches to compile for; None for none.

    Args:
        config: settings of training.
        model: the model; see `recsys.nn.traits` for what it says about its shapes.
        n_rows: rows of an epoch.
        world: the processes that share each batch.
    """
    is_worthwhile = world.device.type == "cuda" and n_rows * config.epochs >= _WORTHWHILE_ROWS
    if config.compile == "off" or (config.compile == "auto" and not (is_worthwhile and is_compiled_by_default(model))):
        return None
    return -(-min(config.batch_size, n_rows) // world.size)


def uses_graphs(world: World) -> bool:
    """Whether CUDA graphs are recorded: by a single process with a GPU; others sum gradients between the graphs."""
    return world.device.type == "cuda" and world.size == 1


class Compiled:
    """Computes an objective by `torch.compile`; without it where it fails, after one line.

    Compilation takes up to a minute for every number of rows, so it is for the batches of one size.

    Args:
        objective: the losses of a model.
        n_rows: rows of the batches to compute by compiled kernels; others are computed as they are.
    """

    def __init__(self, objective: Objective, n_rows: int) -> None:
        self._objective, self._n_rows = objective, n_rows
        self._compiled = torch.compile(objective, dynamic=not has_fixed_shapes(objective.model))
        self._is_on = True

    def __call__(self, batch: Batch) -> Tensor:
        """[B] losses."""
        if not self._is_on or batch.n_rows != self._n_rows:
            return self._objective(batch)
        try:
            return self._compiled(batch)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # the compiler raises errors of many types
            reason = " ".join(str(error).split("\n\n")[0].splitlines())
            console.print(f"training without compiled kernels: {reason[:300]}", style="yellow")
            self._is_on = False
            return self._objective(batch)
