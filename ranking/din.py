"""DIN: behaviours weighed by how they bear on the candidate, beside all other features."""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from ranking.dcnv2 import CrossNet
from ranking.matching import Matching, MatchingConfig
from ranking.model_config import DeepModelConfig
from recsys.data.batch import Batch
from recsys.errors import InputError
from recsys.nn.embeddings import PooledEmbeddings, SequenceEmbeddings, module_name
from recsys.nn.jagged import equal_weights, mean_by_row, row_of_event, softmax_by_row, sum_by_row
from recsys.nn.layers import MLP, Activation, LogitHead, activation_of, concat
from recsys.schema.resolved import Schema


class DINConfig(DeepModelConfig):
    """Sizes of a DIN."""

    name: Literal["din"] = "din"
    embedding_dim: int = Field(default=16, ge=1)
    embedding_init_std: float = Field(default=0.05, gt=0)
    behaviours: tuple[str, ...] | None = None
    """The sequences to attend to; null for all of the schema."""
    pooling: Literal["attention", "mean"] = "attention"
    """mean weighs every behaviour alike: the same network without the attention units."""
    attention_dims: tuple[int, ...] = Field(default=(80, 40), min_length=1)
    attention_softmax: bool = False
    """Makes a row's weights sum to one; the paper keeps them as they are, so that many matches count more than one."""
    target_with: tuple[str, ...] = ()
    """Categorical features whose embeddings are added to the target's for the attention: what a rare item lacks, its
    campaign or brand may know."""
    match_scores: bool = False
    """Hands the mean score of each behaviour field, before any softmax, to the logit itself, beside the MLP."""
    matching: MatchingConfig | None = None
    """Learns, beside the clicks, which target is shown to which behaviours, and hands that match to the logit itself;
    null for no such network."""
    cross_depth: int = Field(default=0, ge=0)
    """Cross layers of a DCN V2 beside the MLP, over the same inputs; the paper has none."""
    cross_rank: int | None = Field(default=None, ge=1)
    hidden_dims: tuple[int, ...] = Field(default=(256, 128, 64), min_length=1)
    activation: Activation = "dice"
    dropout: float = Field(default=0.1, ge=0, lt=1)
    batch_norm: bool = False
    """Of the MLP's layers."""
    gradient_checkpointing: bool = False
    """Trades time for memory: activations of the MLP are computed anew in the backward pass."""

    @model_validator(mode="after")
    def _scores_come_of_attention(self) -> "DINConfig":
        if self.match_scores and self.pooling == "mean":
            raise ValueError(
                "match_scores are those of the attention units, and pooling: mean has none: drop one of them"
            )
        return self


class AttentionUnit(nn.Module):
    """A behaviour's weight from an MLP over [behaviour, target, behaviour - target, behaviour * target].

    Source: Zhou et al., "Deep Interest Network", KDD 2018 (arXiv 1706.06978), figure 2 and section 4.3.
    NOTE[DIFF]: the paper feeds the outer product, its authors' code the difference and the product.

    Args:
        dim: D.
        hidden_dims: of the MLP.
        activation: of its layers.
        has_bias: whether all weights may shift together; where they only go into a softmax, that would change nothing.
    """

    def __init__(self, dim: int, hidden_dims: tuple[int, ...], activation: Activation, has_bias: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(4 * dim, hidden_dims[0])
        self.activation = activation_of(activation, hidden_dims[0])
        self.rest = MLP(hidden_dims[0], hidden_dims[1:], dropout=0.0, activation=activation)
        self.last = nn.Linear(self.rest.d_out, 1, bias=has_bias)

    def forward(self, behaviour_TD: Tensor, target_BD: Tensor, row_T: Tensor) -> Tensor:
        """[T, D] behaviours and the [B, D] targets of their rows, row_T, to [T, 1] weights.

        The first layer's share of the target is computed once a row and not once a behaviour:
        W [h, t, h - t, h * t] = (W_1 + W_3) h + (W_2 - W_3) t + W_4 (h * t).
        """
        own, target, difference, product = self.first.weight.chunk(4, dim=1)
        of_target_BH = functional.linear(target_BD, target - difference, self.first.bias)
        inputs_TX = concat([behaviour_TD, behaviour_TD * target_BD.index_select(0, row_T)])
        of_behaviour_TH = functional.linear(inputs_TX, torch.cat([own + difference, product], dim=1))
        return self.last(self.rest(self.activation(of_behaviour_TH + of_target_BH.index_select(0, row_T))))


class NumericSteps(nn.Module):
    """One vector per step of a group of numeric columns: value * w_step + b_step."""

    no_decay = True

    def __init__(self, n_steps: int, dim: int, init_std: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(n_steps, dim) * init_std)
        self.shift = nn.Parameter(torch.randn(n_steps, dim) * init_std)

    def forward(self, step_T: Tensor, value_T: Tensor) -> Tensor:
        """[T] step numbers and [T] values to [T, D]."""
        return self.scale.index_select(0, step_T) * value_T.unsqueeze(1) + self.shift.index_select(0, step_T)


class DIN(nn.Module):
    """logit = w^T mlp([features, target, pooled behaviours, dense]), each behaviour field with an attention unit.

    Behaviours stay jagged: no work is done on padding, and an empty history pools to zeros. By option the logit also
    reads how well the behaviours match the target on the whole, as in the item-to-item network of DMR (Lyu et al.,
    "Deep match to rank model for personalized click-through rate prediction", AAAI 2020).

    Args:
        config: sizes.
        schema: features and table sizes; `target_item` names the candidate.

    Raises:
        InputError: when the schema names no target, a behaviour is not one of its sequences, or what stands with the
            target is no categorical feature.
    """

    def __init__(self, config: DINConfig, schema: Schema) -> None:
        super().__init__()
        if schema.target_item is None:
            raise InputError("din weighs behaviours against schema.target_item, which is not set: name the ad's column")
        self.target = schema.target_item
        columns = {feature.name: len(feature.columns) for feature in schema.column_sequences}
        known = [*(s.name for s in schema.token_sequences), *columns]
        self.sequences = tuple(known) if config.behaviours is None else config.behaviours
        if unknown := [name for name in self.sequences if name not in known]:
            raise InputError(f"model.behaviours: {unknown[0]!r} is not a sequence: the schema has {', '.join(known)}")
        dim, std = config.embedding_dim, config.embedding_init_std
        tokens = [name for name in self.sequences if name not in columns]
        if unknown := [name for name in config.target_with if name not in schema.categorical or name == self.target]:
            raise InputError(f"model.target_with: {unknown[0]!r} is not a categorical feature beside {self.target!r}")
        self.item = (self.target, *config.target_with)
        others = [name for name in schema.categorical if name not in self.item]
        self.events = SequenceEmbeddings(schema, dim, tokens, std, categorical=self.item)
        self.features = PooledEmbeddings(schema, dim, (), std, categorical=others)
        self.steps = nn.ModuleDict(
            {module_name(name): NumericSteps(columns[name], dim, std) for name in self.sequences if name in columns}
        )
        self.units = nn.ModuleDict()
        if config.pooling == "attention":
            dims, activation, has_bias = (
                config.attention_dims,
                config.activation,
                config.match_scores or not config.attention_softmax,
            )
            self.units.update(
                {module_name(name): AttentionUnit(dim, dims, activation, has_bias) for name in self.sequences}
            )
        self.has_softmax = config.attention_softmax
        width = (len(schema.categorical) + len(self.sequences)) * dim + len(schema.dense)
        saves_memory = config.gradient_checkpointing
        self.mlp = MLP(width, config.hidden_dims, config.dropout, config.batch_norm, saves_memory, config.activation)
        self.cross = CrossNet(width, config.cross_depth, config.cross_rank) if config.cross_depth else None
        self.has_match_scores = config.match_scores
        self.matching = Matching(config.matching, len(self.sequences) * dim, dim) if config.matching else None
        self.auxiliary_weight = config.matching.loss_weight if config.matching else 0.0
        n_scores = len(self.sequences) * config.match_scores + (self.matching is not None)
        self.head = LogitHead(self.mlp.d_out, *([width] if self.cross else []), *([n_scores] if n_scores else []))

    def forward(self, batch: Batch) -> Tensor:
        """[B] logits."""
        return self._forward(batch)[0]

    def with_auxiliary(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """[B] logits, and the [B] losses of the matching network."""
        logits, vectors = self._forward(batch)
        assert self.matching is not None
        assert vectors is not None
        return logits, self.matching.losses(*vectors)

    def _forward(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """[B] logits, and the vectors of the matching network, if there is one."""
        events = self.events(batch)
        item = [events[name].values() for name in self.item]
        target_BD = torch.stack(item).sum(0) if len(item) > 1 else item[0]
        pooled, scores, means = [], [], []
        for name in self.sequences:
            if (key := module_name(name)) in self.steps:
                found = batch.sequences[name]
                behaviour_TD = self.steps[key](found.values().long(), found.weights())
            else:
                found = events[name]
                behaviour_TD = found.values()
            sum_BD, match_B1 = self.pool(key, behaviour_TD, found.lengths(), target_BD)
            pooled.append(sum_BD)
            if self.has_match_scores:
                scores.append(match_B1)
            if self.matching is not None:
                means.append(mean_by_row(behaviour_TD, found.lengths()))
        x0_BX = concat([self.features(batch), *item, *pooled, batch.dense])
        beside = [self.cross(x0_BX)] if self.cross else []
        vectors = None
        if self.matching is not None:
            vectors = self.matching(torch.cat(means, dim=1), target_BD)
            scores.append((vectors[0] * vectors[1]).sum(dim=1, keepdim=True))
        if scores:
            beside.append(torch.cat([score.float() for score in scores], dim=1))
        return self.head(self.mlp(x0_BX), *beside), vectors

    def pool(self, unit: str, behaviour_TD: Tensor, length_B: Tensor, target_BD: Tensor) -> tuple[Tensor, Tensor]:
        """[T, D] behaviours, end to end, to [B, D], their weighted sum in each row, and [B, 1], their mean score."""
        n_rows = len(length_B)
        row_T = row_of_event(length_B, len(behaviour_TD))
        share_B1 = equal_weights(length_B, behaviour_TD.dtype).unsqueeze(1)
        match_B1 = share_B1.new_zeros(n_rows, 1)
        if unit not in self.units:
            weight_T1 = share_B1.index_select(0, row_T)
        else:
            weight_T1 = self.units[unit](behaviour_TD, target_BD, row_T).to(behaviour_TD.dtype)
            if self.has_match_scores:
                match_B1 = share_B1 * sum_by_row(weight_T1, row_T, n_rows)
            if self.has_softmax:
                weight_T1 = softmax_by_row(weight_T1.squeeze(1), row_T, n_rows).unsqueeze(1)
        return sum_by_row(weight_T1 * behaviour_TD, row_T, n_rows), match_B1
