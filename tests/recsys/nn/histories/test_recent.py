import torch

from recsys.nn.histories.recent import last_events, recent_places, recent_slots, step_places

EVENTS = torch.arange(1.0, 7).unsqueeze(1).repeat(1, 2).requires_grad_()
LENGTHS = torch.tensor([2, 0, 4])


def test_last_events_by_hand() -> None:
    events, lengths = last_events(EVENTS, LENGTHS, 3)
    assert events[:, 0].tolist() == [1, 2, 4, 5, 6]
    assert lengths.tolist() == [2, 0, 3]
    events, lengths = last_events(EVENTS, LENGTHS, 9)
    assert torch.equal(events, EVENTS)
    assert torch.equal(lengths, LENGTHS)


def test_recent_places_by_hand() -> None:
    places, is_event = recent_places(LENGTHS, 6, 3)
    assert is_event.tolist() == [[True, True, False], [False] * 3, [True] * 3]
    assert places[is_event].tolist() == [1, 0, 5, 4, 3]
    assert places[~is_event].tolist() == [2, 3, 4, 5]  # the numbers of the slots: each another place
    assert int(recent_places(LENGTHS, 6, 30)[0].max()) == 6


def test_no_events_at_all() -> None:
    places, is_event = recent_places(torch.tensor([0, 0]), 0, 3)
    assert places.tolist() == [[0, 0, 0]] * 2
    assert not is_event.any()
    assert recent_places(torch.tensor([], dtype=torch.int64), 0, 3)[0].shape == (0, 3)
    assert len(last_events(torch.zeros(0, 2), torch.tensor([0, 0]), 3)[0]) == 0


def test_slots_of_padded_histories_are_the_same() -> None:
    padded = torch.zeros(3, 5, 2)
    padded[0, :2], padded[2, :4] = EVENTS[:2].detach(), EVENTS[2:].detach()
    mask = (torch.arange(5) < LENGTHS.unsqueeze(1)).float()
    for n_slots in (1, 3, 5, 7):
        places, expected = recent_places(LENGTHS, 6, n_slots)
        found, is_event = recent_slots(padded, mask, n_slots)
        assert torch.equal(is_event, expected)
        assert torch.equal(found[is_event], EVENTS[places[is_event]])
        assert not found[~is_event].any()


def test_step_places_by_hand() -> None:
    steps = torch.tensor([0, 2, 0, 1, 2, 3])
    places, is_event = step_places(steps, LENGTHS, 4)
    assert is_event.tolist() == [[True, False, True, False], [False] * 4, [True] * 4]
    assert places[is_event].tolist() == [0, 1, 2, 3, 4, 5]
    assert int(places.max()) <= 6
