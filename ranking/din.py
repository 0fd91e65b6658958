"""DIN: attention over a user's behaviours with the candidate item as the query.

Source: Zhou et al., "Deep interest network for click-through rate prediction", KDD 2018 (arXiv 1706.06978).

Shapes: B rows of a batch, T behaviours of all rows, D embedding width, U hidden units, X width of concatenated vectors.
"""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from ranking.dcnv2 import CrossNet
from ranking.model_config import BehavioursConfig, NumericEmbeddingsConfig, Width
from recsys.data.batch import Batch
from recsys.nn.embeddings import PooledEmbeddings, SequenceEmbeddings, module_name
from recsys.nn.histories.behaviours import behaviours_of, target_features
from recsys.nn.histories.recent import last_events
from recsys.nn.histories.sdim import SDIM
from recsys.nn.jagged import EventRows, equal_weights, mean_by_row, softmax_by_row
from recsys.nn.layers import MLP, Activation, LogitHead, build_activation, concat, concat_aligned
from recsys.nn.linear_part import build_linear_part, with_linear_part
from recsys.nn.matching import Matching, MatchingConfig
from recsys.nn.numeric import build_numeric_embeddings
from recsys.nn.precision import lowered
from recsys.nn.vectors import VectorProjections
from recsys.schema.resolved import Schema


class DINConfig(BehavioursConfig, NumericEmbeddingsConfig):
    """Hyperparameters of DIN."""

    name: Literal["din"] = "din"
    embedding_dim: int = Field(default=16, ge=1)
    embedding_init_std: float = Field(default=0.05, gt=0)
    pooling: Literal["attention", "mean"] = "attention"
    """mean gives all behaviours equal weights: the same network without attention units."""
    attention_dims: tuple[Width, ...] = Field(default=(80, 40), min_length=1)
    attention_softmax: bool = False
    """Normalizes the weights of a row by a softmax. The paper does not: several matches then count more than one."""
    match_scores: bool = False
    """Feeds the mean attention score of each sequence, before any softmax, to the output layer, in parallel with the
    MLP."""
    matching: MatchingConfig | None = None
    """An auxiliary network that learns which targets are shown with which behaviours and feeds its score to the output
    layer; null for none."""
    cross_depth: int = Field(default=0, ge=0)
    """DCN V2 cross layers in parallel with the MLP, over the same inputs; the paper has none."""
    cross_rank: int | None = Field(default=None, ge=1)
    hidden_dims: tuple[Width, ...] = Field(default=(256, 128, 64), min_length=1)
    activation: Activation = "dice"
    dropout: float = Field(default=0.1, ge=0, lt=1)
    batch_norm: bool = False
    """Batch normalization in the MLP's layers."""
    gradient_checkpointing: bool = False
    """Trades time for memory: recomputes the MLP's activations in the backward pass."""

    @model_validator(mode="after")
    def _check_match_scores(self) -> "DINConfig":
        if self.match_scores and self.pooling == "mean":
            raise ValueError("match_scores=true needs pooling=attention, got pooling=mean: change one of them")
        return self


class AttentionUnit(nn.Module):
    """Computes the attention weight of a behaviour for a target by an MLP.

    weight = mlp([behaviour, target, behaviour - target, behaviour * target]).

    Source: DIN, figure 2 and section 4.3.
    NOTE[DIFF]: the paper feeds the outer product to the MLP; the authors' code feeds the difference and the product.

    Args:
        dim: D, embedding width.
        hidden_dims: widths of the MLP's layers.
        activation: activation of the MLP's layers.
        has_bias: whether the last layer has a bias. A softmax over the weights cancels it.
    """

    def __init__(self, dim: int, hidden_dims: tuple[int, ...], activation: Activation, has_bias: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(4 * dim, hidden_dims[0])
        self.activation = build_activation(activation, hidden_dims[0])
        self.rest = MLP(hidden_dims[0], hidden_dims[1:], dropout=0.0, activation=activation)
        self.last = nn.Linear(self.rest.d_out, 1, bias=has_bias)

    def forward(self, behaviour_TD: Tensor, target_BD: Tensor, rows: EventRows) -> Tensor:
        """Returns [T, 1] weights of [T, D] behaviours for the [B, D] targets of their rows.

        The first layer's term of the target is computed once per row, not once per behaviour:
        W [h, t, h - t, h * t] = (W_1 + W_3) h + (W_2 - W_3) t + W_4 (h * t).
        """
        w_behaviour, w_target, w_difference, w_product = self.first.weight.chunk(4, dim=1)
        target_term_BU = functional.linear(target_BD, w_target - w_difference, self.first.bias)
        inputs_TX = concat([behaviour_TD, behaviour_TD * rows.spread(target_BD)])
        behaviour_term_TU = functional.linear(inputs_TX, torch.cat([w_behaviour + w_difference, w_product], dim=1))
        return self.last(self.rest(self.activation(behaviour_term_TU + rows.spread(target_term_BU))))


class NumericSteps(nn.Module):
    """Embeds each step of a group of numeric columns as value * w_step + b_step."""

    no_decay = True

    def __init__(self, n_steps: int, dim: int, init_std: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(n_steps, dim) * init_std)
        self.shift = nn.Parameter(torch.randn(n_steps, dim) * init_std)

    def forward(self, step_T: Tensor, value_T: Tensor) -> Tensor:
        """Returns [T, D] embeddings of [T] step numbers and [T] values."""
        return self.scale.index_select(0, step_T) * value_T.unsqueeze(1) + self.shift.index_select(0, step_T)


class DIN(nn.Module):
    """Computes a logit from the features and each behaviour sequence, pooled by attention with the target as the query.

    logit = w^T mlp([features, target, pooled behaviours, projections of vectors, dense]). Each sequence has its own
    attention unit. With `long_pooling` the MLP also reads all events of each token sequence, pooled by SDIM, while
    attention may read the last `max_events` of them.

    Behaviours are jagged, without padding; an empty history pools to zeros. With `match_scores` the output layer also
    reads the mean attention scores, as in the item-to-item network of DMR (Lyu et al., "Deep match to rank model for
    personalized click-through rate prediction", AAAI 2020).

    Args:
        config: hyperparameters.
        schema: features and table sizes; `target_item` names the candidate's column.

    Raises:
        InputError: when the schema has no target item or no sequences, `behaviours` names an unknown sequence, or
            `target_with` names the target or a feature that is not categorical.
    """

    Config = DINConfig
    dynamic_shapes = True

    def __init__(self, config: DINConfig, schema: Schema) -> None:
        super().__init__()
        config.check_roles(behaviours_of(schema, None).names, schema.target_item)
        behaviours = behaviours_of(schema, config.behaviours)
        self.item = target_features(schema, config.target_with)
        self.target = self.item[0]
        self.sequences, self.max_lengths, n_steps = behaviours.names, behaviours.max_lengths, behaviours.n_steps
        self.max_events = config.max_events
        dim, std = config.embedding_dim, config.embedding_init_std
        other_categorical = [name for name in schema.categorical if name not in self.item]
        self.events = SequenceEmbeddings(schema, dim, behaviours.tokens, std, categorical=self.item)
        self.features = PooledEmbeddings(schema, dim, (), std, categorical=other_categorical)
        self.steps = nn.ModuleDict(
            {module_name(name): NumericSteps(n_steps[name], dim, std) for name in self.sequences if name in n_steps}
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
        self.vectors = VectorProjections(schema, dim)
        n_numbers = len(self.vectors.others)
        self.numeric = build_numeric_embeddings(config.numeric_embeddings, n_numbers, config.d_numeric)
        self.d_numeric = config.d_numeric
        self.long = SDIM(dim, config.n_hashes, config.hash_width) if config.long_pooling == "sdim" else None
        n_long = len(behaviours.tokens) if self.long else 0
        n_features = len(schema.categorical) + len(self.sequences) + n_long + len(self.vectors.names)
        width = n_features * dim + n_numbers * config.d_numeric
        checkpointing = config.gradient_checkpointing
        self.mlp = MLP(width, config.hidden_dims, config.dropout, config.batch_norm, checkpointing, config.activation)
        self.cross = CrossNet(width, config.cross_depth, config.cross_rank) if config.cross_depth else None
        self.has_match_scores = config.match_scores
        self.matching = Matching(config.matching, len(self.sequences) * dim, dim) if config.matching else None
        self.auxiliary_weight = config.matching.loss_weight if config.matching else 0.0
        n_scores = len(self.sequences) * config.match_scores + (self.matching is not None)
        self.head = LogitHead(self.mlp.d_out, *([width] if self.cross else []), *([n_scores] if n_scores else []))
        self.linear_part = build_linear_part(config.linear_part, schema)

    def forward(self, batch: Batch) -> Tensor:
        """Returns [B] logits."""
        return self._forward(batch)[0]

    def with_auxiliary(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns [B] logits, and the [B] losses of the matching network."""
        logits, vectors = self._forward(batch)
        assert self.matching is not None
        assert vectors is not None
        return logits, self.matching.losses(*vectors)

    def _forward(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Returns [B] logits, and the [B, D] vectors u and v of the matching network or None."""
        events = self.events(batch)
        target_embeddings = [lowered(events[name].values()) for name in self.item]
        target_BD = torch.stack(target_embeddings).sum(0) if len(target_embeddings) > 1 else target_embeddings[0]
        pooled, long, scores, means = [], [], [], []
        for name in self.sequences:
            max_length = self.max_lengths[name]
            if (key := module_name(name)) in self.steps:
                jagged = batch.sequences[name]
                behaviour_TD = lowered(self.steps[key](jagged.values().long(), jagged.weights()))
                length_B = jagged.lengths()
            else:
                behaviour_TD, length_B = lowered(events[name].values()), events[name].lengths()
                if self.long is not None:
                    long.append(self.long(behaviour_TD, length_B, max_length, target_BD))
                if self.max_events is not None and self.max_events < max_length:
                    behaviour_TD, length_B = last_events(behaviour_TD, length_B, self.max_events)
            rows = EventRows(length_B, len(behaviour_TD), max_length)
            sum_BD, match_B1 = self.pool(key, behaviour_TD, rows, target_BD)
            pooled.append(sum_BD)
            if self.has_match_scores:
                scores.append(match_B1)
            if self.matching is not None:
                means.append(mean_by_row(behaviour_TD, length_B))
        numeric_BX = self.numeric(self.vectors.without(batch.dense)).flatten(1)
        projected = self.vectors(batch.dense)
        x0_BX = concat_aligned([self.features(batch), *target_embeddings, *pooled, *long, *projected, numeric_BX])
        head_inputs = [self.cross(x0_BX)] if self.cross else []
        vectors = None
        if self.matching is not None:
            vectors = self.matching(torch.cat(means, dim=1), target_BD)
            scores.append((vectors[0] * vectors[1]).sum(dim=1, keepdim=True))
        if scores:
            head_inputs.append(torch.cat([score.float() for score in scores], dim=1))
        return with_linear_part(self.linear_part, batch, self.head(self.mlp(x0_BX), *head_inputs)), vectors

    def pool(self, unit: str, behaviour_TD: Tensor, rows: EventRows, target_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the [B, D] weighted sums and the [B, 1] mean scores of the [T, D] behaviours of each row."""
        equal_weight_B1 = equal_weights(rows.length_B, behaviour_TD.dtype).unsqueeze(1)
        match_B1 = equal_weight_B1.new_zeros(rows.n_rows, 1)
        if unit not in self.units:
            weight_T1 = rows.spread(equal_weight_B1)
        else:
            weight_T1 = self.units[unit](behaviour_TD, target_BD, rows).to(behaviour_TD.dtype)
            if self.has_match_scores:
                match_B1 = equal_weight_B1 * rows.sum(weight_T1)
            if self.has_softmax:
                weight_T = softmax_by_row(weight_T1.squeeze(1).float(), rows.row_T, rows.n_rows)
                weight_T1 = weight_T.unsqueeze(1).to(behaviour_TD.dtype)
        return rows.sum(weight_T1 * behaviour_TD), match_B1
