"""Everything that an update of the weights needs and changes.

Shapes: B rows of a batch.
"""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torchrec.distributed.planner.types import PlannerError

from recsys.data.batch import Batch
from recsys.distributed.fused import set_fused_step
from recsys.distributed.sharding import shard
from recsys.errors import InputError
from recsys.nn.precision import Precision
from recsys.system.world import World
from recsys.training.config import FitConfig
from recsys.training.task import Objective
from recsys.training.update.averaging import WeightAverage, averaged_tensors
from recsys.training.update.compiled import n_compiled_rows, uses_graphs
from recsys.training.update.mixout import Mixout
from recsys.training.update.optimizers import Optimizers, dense_state
from recsys.training.update.pipeline import build_pipeline
from recsys.training.update.step import Step


class Updater:
    """Updates the weights of a model, batch by batch.

    Args:
        objective: the losses of a model whose tables have no storage yet; they are sharded here.
        config: settings of training.
        precision: precision of the matrix products.
        n_rows: rows of an epoch.
        world: the processes that train together.

    Raises:
        InputError: if the tables do not fit in memory.
    """

    def __init__(
        self, objective: Objective, config: FitConfig, precision: Precision, n_rows: int, world: World
    ) -> None:
        model = objective.model
        self._world, self._model = world, model
        self.sharded = _shard(model, config, n_rows, world)
        self.optimizers = Optimizers(self.sharded, config, -(-n_rows // config.batch_size) * config.epochs)
        self._mixout = Mixout(model, self.optimizers.matrices, config.mixout)
        self.average = WeightAverage(averaged_tensors(model, self.optimizers), config.weight_average)
        n_compiled = n_compiled_rows(config, model, n_rows, world)
        if n_compiled is not None and uses_graphs(world):
            self.optimizers.use_graph()
        self.step = Step(objective, self._mixout, precision, config.micro_batches, world, n_compiled)
        self.pipeline = build_pipeline(self.step, self.optimizers, world)

    def run(self, batches: Iterator[Batch], n_rows: int, number: int) -> tuple[Tensor, dict[str, float]]:
        """Runs one update with the next batch; returns its [] loss and the learning rates.

        Args:
            batches: this process's batches; some are read ahead.
            n_rows: rows of this batch over all processes.
            number: number of the step, from 0.
        """
        rates = self.optimizers.set_rates(number)
        loss = self.pipeline.run(batches, n_rows)
        self.average.update(number + 1)
        return loss, rates

    def end_epoch(self) -> None:
        """Leaves the model for evaluation: without the pipeline, and with the same statistics on every process."""
        self.pipeline.detach()
        for tensor in (*self._model.buffers(), *self.average.means.values()):
            if tensor.is_floating_point():  # each process has running statistics of its own rows
                self._world.all_reduce(tensor).div_(self._world.size)

    def state(self) -> dict[str, Any]:
        """Every tensor that updates change."""
        return {
            "model": self.sharded.state_dict(),
            "dense_optimizer": dense_state(self.optimizers),
            "fused_optimizer": self.optimizers.fused.state_dict()["state"],
            "mixout": self._mixout.anchors,
            "average": self.average.means,
        }

    def resume(self, number: int, precision: Precision, micro_batches: int) -> None:
        """Continues at a step, after the tensors of `state` were loaded."""
        self.step.precision, self.step.micro_batches = precision, micro_batches
        self.step.finite.settle(0)
        set_fused_step(self.sharded, number)


def _shard(model: nn.Module, config: FitConfig, n_rows: int, world: World) -> nn.Module:
    """Shards the tables; a batch has at most all rows."""
    batch_size = min(config.batch_size, n_rows)
    try:
        return shard(model, config.embeddings, config.seed, -(-batch_size // world.size), world)
    except PlannerError as error:
        raise InputError(
            "the embedding tables do not fit in memory: lower model.embedding_dim or trainer.batch_size, raise "
            "prepare.min_count, or use more processes"
        ) from error
