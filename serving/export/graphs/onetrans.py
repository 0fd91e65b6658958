"""OneTrans for the candidates of users.

The modules of a trained `ranking.onetrans.model.OneTrans`, on padded histories. Events attend to the target, so each
candidate has states of its own for all tokens: nothing but the look-ups is computed once per user.

Shapes: U users, n candidates of each user, L events of the longest history, S slots of a sequence, E width of an
embedding.
"""

from typing import cast

import torch
from torch import Tensor, nn

from ranking.din import NumericSteps
from ranking.onetrans.model import OneTrans
from recsys.nn.embeddings import module_name
from recsys.nn.histories.recent import recent_slots
from serving.export.graphs.din import embedded_steps


class OneTransGraph(nn.Module):
    """Computes the logits of the candidates of users.

    Args:
        model: a trained model.
    """

    def __init__(self, model: OneTrans) -> None:
        super().__init__()
        self.has_features, self.linear_part = bool(model.features.features), model.linear_part
        for name in ("features", "events", "linear_part"):  # the tables are written: the graph has none
            setattr(model, name, None)
        self.model = model

    def forward(self, dense_UnN: Tensor, target_UnX: Tensor, *others: Tensor) -> Tensor:
        """Returns [U * n] logits; see `DINGraph.forward` for the arguments."""
        model, n_candidates = self.model, dense_UnN.shape[1]
        embeddings_UnX = [others[0]] if self.has_features else []
        histories = others[len(embeddings_UnX) :]
        if self.linear_part is not None:
            linear_UnX, histories = histories[0], histories[1:]
        target_UnE = torch.stack(target_UnX.chunk(len(model.item), dim=2)).sum(0)
        events, is_event, long = [], [], []
        for index, name in enumerate(model.sequences):
            values, mask_UL = histories[2 * index : 2 * index + 2]
            key = module_name(name)
            if key in model.steps:
                x_USE = embedded_steps(cast(NumericSteps, model.steps[key]), values) * mask_UL.unsqueeze(2)
                is_event_US = mask_UL > 0
            else:
                x_USE, is_event_US = recent_slots(values, mask_UL, model.n_slots[name])
                if model.long is not None:
                    long.append(model.long.of_candidates(values, target_UnE).flatten(0, 1))
            events.append(x_USE)
            is_event.append(is_event_US)
        embeddings = [x_UnX.flatten(0, 1) for x_UnX in (*embeddings_UnX, target_UnX)]
        dense_BN = dense_UnN.flatten(0, 1)
        tokens_BFD = model.tokens(embeddings, dense_BN, target_UnE.flatten(0, 1), long)
        event_BLE, is_event_BL = (
            _repeated(torch.cat(x, dim=1).index_select(1, model.order), n_candidates) for x in (events, is_event)
        )
        slot_1L = torch.arange(len(model.order)).unsqueeze(0)
        logits = model.readout(model.layers(tokens_BFD, event_BLE, slot_1L, is_event_BL, model.n_left))
        if self.linear_part is None:
            return logits
        return self.linear_part.mixed(logits, linear_UnX.flatten(0, 1), dense_BN)


def _repeated(x: Tensor, n: int) -> Tensor:
    """[U, ...] to [U * n, ...]: the same for each candidate of a user."""
    return x.unsqueeze(1).expand(-1, n, *[-1] * (x.ndim - 1)).flatten(0, 1)
