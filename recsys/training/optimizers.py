"""AdamW's parameter groups, and the learning rate over the steps."""

import math

import torch
from torch import nn
from torchrec import EmbeddingBagCollection, EmbeddingCollection

from recsys.training.config import TrainerConfig


def make_optimizer(model: nn.Module, config: TrainerConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, ICLR 2019) with decay on weight matrices alone.

    Embedding tables have no decay: it would walk every row at each step, also those no batch has touched.
    """
    tables = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, (EmbeddingBagCollection, EmbeddingCollection))
        for parameter in module.parameters()
    }
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in model.parameters():
        is_matrix = parameter.ndim >= 2 and id(parameter) not in tables
        (decayed if is_matrix else free).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def learning_rate_at(step: int, n_steps: int, config: TrainerConfig) -> float:
    """Linear warm-up, then half a cosine down to the final fraction (Loshchilov and Hutter, SGDR, ICLR 2017, eq. 5).

    Args:
        step: from 0.
        n_steps: steps of the whole training.
        config: peak, warm-up and end.
    """
    n_warmup = round(config.warmup_fraction * n_steps)
    if step < n_warmup:
        return config.learning_rate * (step + 1) / (n_warmup + 1)
    progress = (step - n_warmup) / max(1, n_steps - n_warmup)
    end = config.final_learning_rate_fraction
    return config.learning_rate * (end + (1 - end) * 0.5 * (1 + math.cos(math.pi * progress)))
