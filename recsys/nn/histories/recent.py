"""The most recent events of histories: the last ones of each row.

Shapes: B rows of a batch, T events of all rows, L slots of a padded history, D width.
"""

import torch
from torch import Tensor

from recsys.nn.jagged import row_of_event


def last_events(x_TD: Tensor, length_B: Tensor, n_events: int) -> tuple[Tensor, Tensor]:
    """The last `n_events` events of each row, still jagged, and the number of them by row.

    On a GPU the host waits for their number.
    """
    row_T = row_of_event(length_B, len(x_TD))
    after_T = length_B.cumsum(0).index_select(0, row_T) - torch.arange(len(x_TD), device=x_TD.device)
    kept = (after_T <= n_events).nonzero().squeeze(1)  # the last event has one event from itself to the row's end
    return x_TD.index_select(0, kept), length_B.clamp(max=n_events)


def recent_events(x_TD: Tensor, length_B: Tensor, n_slots: int) -> tuple[Tensor, Tensor]:
    """The last `n_slots` events of each row as an array, the most recent first.

    Returns:
        [B, L, D] events, zeros in slots without an event; [B, L] bool, whether there is one.
    """
    slot_L = torch.arange(n_slots, device=x_TD.device)
    is_event_BL = slot_L < length_B.unsqueeze(1)
    event_BL = length_B.cumsum(0).unsqueeze(1) - 1 - slot_L
    # empty slots read different events: the additions of their zero gradients would wait for one another
    elsewhere_BL = torch.arange(is_event_BL.numel(), device=x_TD.device).view_as(is_event_BL) % (len(x_TD) + 1)
    padded = torch.cat([x_TD, x_TD.new_zeros(1, x_TD.shape[1])])
    x_BLD = padded.index_select(0, torch.where(is_event_BL, event_BL, elsewhere_BL).flatten())
    return x_BLD.view(*is_event_BL.shape, x_TD.shape[1]) * is_event_BL.unsqueeze(2), is_event_BL


def recent_slots(x_BLD: Tensor, is_event_BL: Tensor, n_slots: int) -> tuple[Tensor, Tensor]:
    """The same as `recent_events` from a padded history, whose events come first, the most recent last."""
    slot_S = torch.arange(n_slots, device=x_BLD.device)
    length_B1 = is_event_BL.sum(dim=1, keepdim=True).long()
    is_event_BS = slot_S < length_B1
    event_BS = (length_B1 - 1 - slot_S).clamp(min=0)
    recent = x_BLD.gather(1, event_BS.unsqueeze(2).expand(-1, -1, x_BLD.shape[2]))
    return recent * is_event_BS.unsqueeze(2), is_event_BS


def slots_of_steps(x_TD: Tensor, step_T: Tensor, length_B: Tensor, n_steps: int) -> tuple[Tensor, Tensor]:
    """The events of a group of columns as an array with a slot for each step; see `recent_events`.

    Args:
        x_TD: the events.
        step_T: the number of each event's step.
        length_B: number of events of each row.
        n_steps: L.
    """
    place_T = row_of_event(length_B, len(x_TD)) * n_steps + step_T
    n_slots = len(length_B) * n_steps
    x = x_TD.new_zeros(n_slots, x_TD.shape[1]).index_copy(0, place_T, x_TD)
    is_event = torch.zeros(n_slots, dtype=torch.bool, device=x_TD.device).index_fill(0, place_T, True)
    return x.view(len(length_B), n_steps, x_TD.shape[1]), is_event.view(len(length_B), n_steps)
