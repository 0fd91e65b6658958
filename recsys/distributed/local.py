"""Look-ups of a single process: its ids are where its tables are, and its gradients are those of all processes.

TorchRec's exchange asks the device how many ids each process gets, and the host waits for the answer in every step. Its
replicated tables are in a DistributedDataParallel, which copies and sums their gradients.
"""

from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torchrec import KeyedJaggedTensor
from torchrec.distributed.sharding.tw_sharding import TwSparseFeaturesDist
from torchrec.distributed.types import NoWait, ShardedModule


class _Stay(nn.Module):
    """Passes the ids on, with the interface of an exchange."""

    def forward(self, ids: KeyedJaggedTensor) -> Any:
        """The same ids, awaitable twice."""
        return NoWait(NoWait(ids))


def keep_local(model: nn.Module) -> None:
    """Removes the exchange of ids and of gradients from the sharded modules of a model in a single process."""
    for module in model.modules():
        if isinstance(module, ShardedModule):
            _replace_on_creation(module)
            for number, lookup in enumerate(module._lookups):
                if isinstance(lookup, DistributedDataParallel):
                    module._lookups[number] = lookup.module


def _replace_on_creation(module: Any) -> None:
    """Replaces a module's exchanges when it creates them, which is at its first look-up."""
    create = module._create_input_dist

    def create_and_replace(*args: Any, **kwargs: Any) -> None:
        create(*args, **kwargs)
        for exchange in module._input_dists:
            if isinstance(exchange, TwSparseFeaturesDist):
                exchange._dist = _Stay()

    module._create_input_dist = create_and_replace
