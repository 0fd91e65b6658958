"""Optimizers of the dense part and of the embedding tables, and the learning rate schedule."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchrec.distributed import DistributedModelParallel

from recsys.distributed.fused import RowL2
from recsys.errors import InputError
from recsys.nn.embeddings import Embeddings
from recsys.nn.linear_part import fixed_parameters
from recsys.nn.traits import has_no_decay
from recsys.training.config import MAX_FLOAT32, FitConfig
from recsys.training.update.graphs import UpdateGraph


class Optimizers:
    """AdamW (Loshchilov and Hutter, ICLR 2019) on the dense part and on small tables, fused optimizers on large ones.

    AdamW's weight decay applies only to matrices of the dense part, except in modules with `no_decay = True`:
    parameters that represent a feature have no weight decay, like embeddings. Tables have an L2 penalty on the rows
    that a batch touches, because weight decay would update every row in every step.

    Args:
        model: the sharded model.
        config: learning rates and penalties.
        n_steps: number of steps of the whole training.

    Raises:
        InputError: when the L2 penalty is beyond float32.
    """

    def __init__(self, model: DistributedModelParallel, config: FitConfig, n_steps: int) -> None:
        config = config.model_copy(update={"embeddings": config.embeddings.resolved("cpu")})
        self._config, self._n_steps = config, n_steps
        tables = {id(p) for m in model.modules() if isinstance(m, Embeddings) for p in m.parameters()}
        sharded = sharded_parameter_names(model)
        parameters = dict(model.named_parameters())
        self.names = {id(parameter): name for name, parameter in parameters.items()}
        trained_tables = tables - fixed_parameters(model)
        self._tables = [p for name, p in parameters.items() if id(p) in trained_tables and name not in sharded]
        dense = [p for p in parameters.values() if id(p) not in tables]
        no_decay = {id(p) for m in model.modules() if has_no_decay(m) for p in m.parameters()}
        decayed = [p for p in dense if p.ndim >= 2 and id(p) not in no_decay]
        self.matrices = [self.names[id(p)] for p in decayed]
        undecayed = [p for p in dense if p.ndim < 2 or id(p) in no_decay]
        batches = {id(batch): (batch, table.shape[1]) for table in self._tables for batch in [_batch_of(table)]}
        self._table_batches = list(batches.values())
        """The tables that fbgemm looks up at once as one tensor, and their width."""
        self.updated = [*decayed, *undecayed, *(batch for batch, _ in self._table_batches)]
        """The tensors that AdamW updates."""
        groups = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": self.updated[len(decayed) :], "weight_decay": 0.0},
        ]
        self.dense = torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
        self.fused = model.fused_optimizer
        if config.embeddings.l2 > MAX_FLOAT32:
            raise InputError(f"trainer.embeddings.l2 must be at most {MAX_FLOAT32:g}, got {config.embeddings.l2:g}")
        self._row_l2 = RowL2(model, config.embeddings.l2)
        self.parameters = [*decayed, *undecayed, *self._tables]
        """All parameters that AdamW updates, each table by itself."""
        self.norm = torch.zeros(())
        """Gradient norm of the last step, before clipping."""
        self._graph: UpdateGraph | None = None
        self.is_finite: torch.Tensor | None = None
        """[] bool: whether the gradients are finite; `step` changes no weight if they are not. None if they are."""

    def use_graph(self) -> None:
        """Runs AdamW's update as a CUDA graph."""
        rate = torch.tensor(self._config.learning_rate, device=self.updated[0].device)
        for group in self.dense.param_groups:
            group["lr"], group["capturable"] = rate, True
        self._graph = UpdateGraph(self._update, self.updated)

    def set_rates(self, step: int) -> dict[str, float]:
        """Sets and returns the learning rates of a step; call it before the backward pass."""
        factor = schedule(step, self._n_steps, self._config)
        rates = {"dense": self._config.learning_rate * factor}
        for group in self.dense.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rates["dense"])
            else:
                group["lr"] = rates["dense"]
        if self.fused.param_groups:
            rates["fused"] = self._config.embeddings.fused_learning_rate * factor
            for group in self.fused.param_groups:
                group["lr"] = rates["fused"]
        self.fused.zero_grad()  # passes the learning rate to the tables
        return rates

    def zero_grad(self) -> None:
        """Clears the gradients."""
        self.dense.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Updates the parameters, except fused tables, which the backward pass updates."""
        update = self._update if self._graph is None else self._graph.run
        self.norm = update(self.is_finite)
        self._row_l2.step(self.is_finite)

    def _update(self, is_finite: Tensor | None) -> Tensor:
        """AdamW's update, after the penalty and the limit of the gradients; returns their norm before the limit."""
        l2 = self._config.embeddings.l2
        if l2:
            for tables, width in self._table_batches:
                if tables.grad is not None:
                    add_l2_of_touched_rows(tables.view(-1, width), tables.grad.view(-1, width), l2)
        norm = nn.utils.clip_grad_norm_(self.updated, self._config.gradient_clip or math.inf)
        if is_finite is not None:
            # the fused kernel then leaves weights and moments alone
            cast(Any, self.dense).found_inf = (~is_finite).float()
        self.dense.step()
        return norm


def sharded_parameter_names(model: DistributedModelParallel) -> set[str]:
    """Names of the parameters that are sharded over processes; the others are replicated."""
    names = set()
    for path, tables in model.plan.plan.items():
        for table, sharding in tables.items():
            if sharding.sharding_type != "data_parallel":
                names |= {f"{path}.{kind}.{table}.weight" for kind in ("embedding_bags", "embeddings")}
    return names


@torch.no_grad()
def add_l2_of_touched_rows(rows: Tensor, gradient: Tensor, l2: float) -> None:
    """Adds l2 w to the nonzero rows of a gradient, which is already summed over all processes.

    Args:
        rows: [n, D] rows w of tables.
        gradient: [n, D], changed in place.
        l2: factor of the penalty.
    """
    touched = (gradient != 0).any(dim=1, keepdim=True)
    gradient.addcmul_(rows, touched.to(rows.dtype), value=l2)


def _batch_of(table: Tensor) -> Tensor:
    """The tensor of all tables that fbgemm looks up at once, of which a table is a slice; else the table itself."""
    return getattr(table, "_original_tensor", table)


def schedule(step: int, n_steps: int, config: FitConfig) -> float:
    """The learning rate as a fraction of its peak: linear warm-up, then cosine decay to the final fraction.

    A function of the step instead of a torch scheduler: resuming needs no scheduler state, and the dense and the fused
    optimizers share the factor. Source: Loshchilov and Hutter, SGDR, ICLR 2017, equation 5.

    Args:
        step: step number, from 0.
        n_steps: number of steps of the whole training.
        config: warm-up fraction and final fraction.
    """
    n_warmup = round(config.warmup_fraction * n_steps)
    if step < n_warmup:
        return (step + 1) / (n_warmup + 1)
    progress = (step - n_warmup) / max(1, n_steps - n_warmup)
    end = config.final_learning_rate_fraction
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * progress))


def dense_state(optimizers: Optimizers) -> dict[str, Any]:
    """AdamW's state by parameter name, the same on every process; initialized if no step was made yet."""
    state: dict[str, Any] = {}
    for tensor in optimizers.updated:
        moments = optimizers.dense.state[tensor]
        if not moments:
            moments["step"] = torch.zeros((), dtype=torch.float32, device=tensor.device)
            moments["exp_avg"] = torch.zeros_like(tensor, memory_format=torch.preserve_format)
            moments["exp_avg_sq"] = torch.zeros_like(tensor, memory_format=torch.preserve_format)
    for parameter in optimizers.parameters:
        moments = optimizers.dense.state[_batch_of(parameter)]
        means = {key: _slice_of(moments[key], parameter) for key in ("exp_avg", "exp_avg_sq")}
        state[optimizers.names[id(parameter)]] = {"step": moments["step"], **means}
    return state


def _slice_of(whole: Tensor, table: Tensor) -> Tensor:
    """The part of a tensor like `_batch_of(table)` that belongs to a table."""
    if whole.shape == table.shape:
        return whole
    start = table.storage_offset() - _batch_of(table).storage_offset()
    return whole[start : start + table.numel()].view(table.shape)
