"""The optimizers of the dense part and of the tables, and the learning rate over the steps."""

import math
from typing import Any

import torch
from torch import nn
from torchrec.distributed import DistributedModelParallel

from recsys.distributed.fused import RowL2
from recsys.nn.embeddings import Embeddings
from recsys.training.config import FitConfig


class Optimizers:
    """AdamW (Loshchilov and Hutter, ICLR 2019) on the dense part and on small tables, fused optimizers on large ones.

    AdamW's weight decay applies to the dense part's matrices alone, but for those of modules that say
    `no_decay = True`: what stands for a feature is undecayed, as embeddings are. Tables have an L2 penalty on the
    rows that a batch touches: decay would walk every row at each step.

    Args:
        model: sharded.
        config: learning rates and penalties.
        n_steps: steps of the whole training.
    """

    def __init__(self, model: DistributedModelParallel, config: FitConfig, n_steps: int) -> None:
        self._config, self._n_steps = config, n_steps
        tables = {id(p) for m in model.modules() if isinstance(m, Embeddings) for p in m.parameters()}
        spread = spread_tables(model)
        named = dict(model.named_parameters())
        self.names = {id(parameter): name for name, parameter in named.items()}
        self._tables = [p for name, p in named.items() if id(p) in tables and name not in spread]
        dense = [p for p in named.values() if id(p) not in tables]
        undecayed = {id(p) for m in model.modules() if getattr(m, "no_decay", False) for p in m.parameters()}
        decayed = [p for p in dense if p.ndim >= 2 and id(p) not in undecayed]
        self.matrices = [self.names[id(p)] for p in decayed]
        free = [p for p in dense if p.ndim < 2 or id(p) in undecayed] + self._tables
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
        self.dense = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        self.fused = model.fused_optimizer
        self._row_l2 = RowL2(model, config.embeddings.l2)
        self.parameters = [*decayed, *free]
        self.norm = torch.zeros(())
        """Of the last step's gradients, before they were clipped."""

    def set_rates(self, step: int) -> dict[str, float]:
        """Sets the learning rates of a step, before its backward pass."""
        factor = schedule(step, self._n_steps, self._config)
        rates = {"dense": self._config.learning_rate * factor}
        for group in self.dense.param_groups:
            group["lr"] = rates["dense"]
        if self.fused.param_groups:
            rates["fused"] = self._config.embeddings.fused_learning_rate * factor
            for group in self.fused.param_groups:
                group["lr"] = rates["fused"]
        self.fused.zero_grad()  # hands the rate to the tables
        return rates

    def zero_grad(self) -> None:
        """Clears the gradients."""
        self.dense.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Updates all but the fused tables, which the backward pass updates."""
        l2 = self._config.embeddings.l2
        if l2:
            for table in self._tables:
                add_l2_of_touched_rows(table, l2)
        self.norm = nn.utils.clip_grad_norm_(self.parameters, self._config.gradient_clip or math.inf)
        self.dense.step()
        self._row_l2.step()


def spread_tables(model: DistributedModelParallel) -> set[str]:
    """The parameters that are spread over processes; every other one is a copy on each."""
    found = set()
    for path, tables in model.plan.plan.items():
        for table, sharding in tables.items():
            if sharding.sharding_type != "data_parallel":
                found |= {f"{path}.{kind}.{table}.weight" for kind in ("embedding_bags", "embeddings")}
    return found


@torch.no_grad()
def add_l2_of_touched_rows(table: nn.Parameter, l2: float) -> None:
    """Adds l2 w to the gradient of the rows that have one: of all processes' rows, once gradients are summed."""
    if table.grad is not None:
        touched = (table.grad != 0).any(dim=1, keepdim=True)
        table.grad.addcmul_(table, touched.to(table.dtype), value=l2)


def schedule(step: int, n_steps: int, config: FitConfig) -> float:
    """The learning rate as a share of its peak: a linear warm-up, then half a cosine down to the final fraction.

    A function of the step, not torch's schedulers: a resumed training needs no state of it, and one factor serves the
    dense and the fused optimizers. Source: Loshchilov and Hutter, SGDR, ICLR 2017, equation 5.

    Args:
        step: from 0.
        n_steps: steps of the whole training.
        config: warm-up and end.
    """
    n_warmup = round(config.warmup_fraction * n_steps)
    if step < n_warmup:
        return (step + 1) / (n_warmup + 1)
    progress = (step - n_warmup) / max(1, n_steps - n_warmup)
    end = config.final_learning_rate_fraction
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * progress))


def dense_state(optimizers: Optimizers) -> dict[str, Any]:
    """AdamW's state by parameter name, the same on every process; made where the first step has not made it yet."""
    state: dict[str, Any] = {}
    for parameter in optimizers.parameters:
        own = optimizers.dense.state[parameter]
        if not own:
            own["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            own["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            own["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        state[optimizers.names[id(parameter)]] = {key: own[key] for key in ("step", "exp_avg", "exp_avg_sq")}
    return state
