"""The most recent events of histories: the last ones of each row.

Shapes: B rows of a batch, T events of all rows, L slots of a padded history, S slots of its most recent
events, D width.
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


def recent_places(length_B: Tensor, n_events: int, n_slots: int) -> tuple[Tensor, Tensor]:
    """Where the last `n_slots` events of each row are, the most recent first.

    Args:
        length_B: number of events of each row.
        n_events: T.
        n_slots: L.

    Returns:
        [B, L] int64 places in the events of all rows; [B, L] bool, whether the slot has an event. Slots without one
        have places from 0 to T, so that T needs a vector too.
    """
    slot_L = torch.arange(n_slots, device=length_B.device)
    is_event_BL = slot_L < length_B.unsqueeze(1)
    place_BL = length_B.cumsum(0).unsqueeze(1) - 1 - slot_L
    return torch.where(is_event_BL, place_BL, _elsewhere(is_event_BL, n_events)), is_event_BL


def step_places(step_T: Tensor, length_B: Tensor, n_steps: int) -> tuple[Tensor, Tensor]:
    """Where the steps of each row are; see `recent_places`.

    Args:
        step_T: the number of each event's step in a group of columns.
        length_B: number of events of each row.
        n_steps: L, a slot for each step.
    """
    n_slots = len(length_B) * n_steps
    slot_T = row_of_event(length_B, len(step_T)) * n_steps + step_T
    is_event = torch.zeros(n_slots, dtype=torch.bool, device=step_T.device).index_fill(0, slot_T, True)
    is_event_BL = is_event.view(len(length_B), n_steps)
    place_T = torch.arange(len(step_T), device=step_T.device)
    place = _elsewhere(is_event_BL, len(step_T)).flatten().index_copy(0, slot_T, place_T)
    return place.view_as(is_event_BL), is_event_BL


def _elsewhere(is_event_BL: Tensor, n_events: int) -> Tensor:
    """Different places for different slots: additions of gradients to a single place would wait for one another."""
    slot = torch.arange(is_event_BL.numel(), device=is_event_BL.device)
    return slot.view_as(is_event_BL) % (n_events + 1)


def recent_slots(x_BLD: Tensor, is_event_BL: Tensor, n_slots: int) -> tuple[Tensor, Tensor]:
    """The last events of padded histories, the most recent first.

    Args:
        x_BLD: events, the most recent last, then padding.
        is_event_BL: 1 for events, 0 for padding.
        n_slots: S.

    Returns:
        [B, S, D] events, zeros in slots without an event; [B, S] bool, whether the slot has an event.
    """
    slot_S = torch.arange(n_slots, device=x_BLD.device)
    length_B1 = is_event_BL.sum(dim=1, keepdim=True).long()
    is_event_BS = slot_S < length_B1
    event_BS = (length_B1 - 1 - slot_S).clamp(min=0)
    recent = x_BLD.gather(1, event_BS.unsqueeze(2).expand(-1, -1, x_BLD.shape[2]))
    return recent * is_event_BS.unsqueeze(2), is_event_BS
