"""DIN for the candidates of users: each user's history is read once, whatever the number of candidates.

The modules of a trained `ranking.din.DIN`, on padded histories: the term of the behaviours in the first layer of an
attention unit is computed once per user, that of the target once per candidate, and features that candidates share are
multiplied once per user.

Shapes: U users, n candidates of each user, L events of the longest history, D embedding width, H hidden units.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ranking.din import DIN, AttentionUnit, NumericSteps
from recsys.nn.dice import Dice
from recsys.nn.embeddings import module_name
from recsys.nn.histories.recent import recent_slots
from recsys.nn.layers import Dropout
from recsys.schema.resolved import Schema
from serving.export.graphs.shared import Blocks, DenseInputs, Head, SharedLayers, shared_features


class DINGraph(nn.Module):
    """Computes the logits of the candidates of users.

    Args:
        din: a trained model.
        schema: the schema of its split.
    """

    def __init__(self, din: DIN, schema: Schema) -> None:
        super().__init__()
        self.head, self.matching = Head(din.head), din.matching
        self.units, self.steps, self.dense = din.units, din.steps, DenseInputs(din.vectors, din.numeric)
        self.sequences, self.n_items = din.sequences, len(din.item)
        self.long, self.max_events = din.long, din.max_events
        self.linear_part = din.linear_part
        self.has_softmax, self.has_match_scores = din.has_softmax, din.has_match_scores
        self.has_features = bool(din.features.features)
        n_long = len(din.sequences) - len(din.steps) if din.long else 0
        dim, n_own = din.features.embedding_dim, len(din.item) + len(din.sequences) + n_long
        inputs = [
            Blocks(shared_features(din.features.features, schema), dim),
            Blocks([False] * n_own, dim),
            *self.dense.blocks(schema, dim, din.d_numeric),
        ]
        self.layers = SharedLayers(din.cross, din.mlp, inputs if self.has_features else inputs[1:])

    def forward(self, dense_UnN: Tensor, target_UnX: Tensor, *others: Tensor) -> Tensor:
        """Returns [U * n] logits.

        Args:
            dense_UnN: dense columns.
            target_UnX: embeddings of the target, then of the features that are added to it.
            others: embeddings of the other features, if there are any; those of the linear part, if there is one; then
                for each sequence its events [U, L, D], or the values [U, L] of a group of columns, and the [U, L] mask
                of those that are present.
        """
        parts = [others[0]] if self.has_features else []
        histories = others[len(parts) :]
        if self.linear_part is not None:
            linear_UnX, histories = histories[0], histories[1:]
        target_UnD = torch.stack(target_UnX.chunk(self.n_items, dim=2)).sum(0)
        pooled, long, scores, means = [], [], [], []
        for index, name in enumerate(self.sequences):
            values, mask_UL = histories[2 * index : 2 * index + 2]
            key = module_name(name)
            events_ULD = values
            if key in self.steps:
                events_ULD = embedded_steps(cast(NumericSteps, self.steps[key]), values)
            else:
                if self.long is not None:
                    long.append(self.long.of_candidates(events_ULD, target_UnD))
                if self.max_events is not None:
                    events_ULD, is_event_UL = recent_slots(events_ULD, mask_UL, self.max_events)
                    mask_UL = is_event_UL.to(events_ULD.dtype)
            length_U1 = mask_UL.sum(dim=1, keepdim=True).clamp(min=1)
            mean_U1D = ((mask_UL / length_U1).unsqueeze(1)) @ events_ULD
            if key not in self.units:
                sum_UnD = mean_U1D.expand(-1, target_UnD.shape[1], -1)
                match_Un1 = torch.zeros_like(target_UnD[:, :, :1])
            else:
                weight_UnL = attention(cast(AttentionUnit, self.units[key]), events_ULD, target_UnD)
                mask_U1L = mask_UL.unsqueeze(1)
                match_Un1 = (weight_UnL * mask_U1L).sum(dim=2, keepdim=True) / length_U1.unsqueeze(1)
                if self.has_softmax:
                    weight_UnL = weight_UnL.masked_fill(mask_U1L == 0, -1e30).softmax(dim=2)
                sum_UnD = (weight_UnL * mask_U1L) @ events_ULD
            pooled.append(sum_UnD)
            scores += [match_Un1] if self.has_match_scores else []
            means.append(mean_U1D.squeeze(1))
        inputs_UnX = (*parts, torch.cat([target_UnX, *pooled, *long], dim=2))
        of_rows = [*(x_UnX.flatten(0, 1) for x_UnX in inputs_UnX), *self.dense(dense_UnN.flatten(0, 1))]
        of_user = [*(x_UnX[:, 0] for x_UnX in inputs_UnX), *self.dense(dense_UnN[:, 0])]
        cross_BX, mlp_BH = self.layers(of_rows, of_user, dense_UnN.shape[1])
        head_inputs = [] if cross_BX is None else [cross_BX]
        if self.matching is not None:
            u_UD, v_UnD = self.matching(torch.cat(means, dim=1), target_UnD)
            scores.append((u_UD.unsqueeze(1) * v_UnD).sum(dim=2, keepdim=True))
        if scores:
            head_inputs.append(torch.cat(scores, dim=2).flatten(0, 1))
        logits = cast(Tensor, self.head(mlp_BH, *head_inputs))
        if self.linear_part is None:
            return logits
        return self.linear_part.mixed(logits, linear_UnX.flatten(0, 1), dense_UnN.flatten(0, 1))


def embedded_steps(steps: NumericSteps, value_UL: Tensor) -> Tensor:
    """[U, L] values of a group of columns to [U, L, D] events."""
    return steps.scale * value_UL.unsqueeze(2) + steps.shift


def attention(unit: AttentionUnit, events_ULD: Tensor, target_UnD: Tensor) -> Tensor:
    """Returns the [U, n, L] weights of an attention unit: see `AttentionUnit.forward`."""
    w_behaviour, w_target, w_difference, w_product = unit.first.weight.chunk(4, dim=1)
    target_UnH = functional.linear(target_UnD, w_target - w_difference, unit.first.bias)
    behaviour_ULH = functional.linear(events_ULD, w_behaviour + w_difference)
    product_UnLD = events_ULD.unsqueeze(1) * target_UnD.unsqueeze(2)
    hidden = functional.linear(product_UnLD, w_product) + behaviour_ULH.unsqueeze(1) + target_UnH.unsqueeze(2)
    hidden = activated(unit.activation, hidden)
    for layer in unit.rest.layers:
        hidden = _through(cast(nn.Sequential, layer), hidden)
    return cast(Tensor, unit.last(hidden)).squeeze(3)


def _through(layer: Sequence[nn.Module] | nn.Sequential, x: Tensor) -> Tensor:
    """A layer of an `MLP` without normalization, on a tensor of any rank."""
    linear, *others = layer
    x = linear(x)
    for module in others:
        x = x if isinstance(module, Dropout) else activated(module, x)
    return x


def activated(module: nn.Module, x: Tensor) -> Tensor:
    """An activation along the last axis of a tensor of any rank."""
    if isinstance(module, Dice):
        norm = module.standardize
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = (norm.running_var + norm.eps).rsqrt()
        p = torch.addcmul(-norm.running_mean * scale, x, scale).sigmoid()
        return x * torch.addcmul(module.slope, p, 1 - module.slope)
    if isinstance(module, nn.PReLU):
        return x.relu() - module.weight * (-x).relu()
    assert isinstance(module, nn.ReLU)
    return x.relu()
