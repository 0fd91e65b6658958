import torch

from recsys.nn.histories.recent import last_events, recent_events, recent_slots, slots_of_steps

EVENTS = torch.arange(1.0, 7).unsqueeze(1).repeat(1, 2).requires_grad_()
LENGTHS = torch.tensor([2, 0, 4])


def test_last_events_by_hand() -> None:
    events, lengths = last_events(EVENTS, LENGTHS, 3)
    assert events[:, 0].tolist() == [1, 2, 4, 5, 6]
    assert lengths.tolist() == [2, 0, 3]
    events, lengths = last_events(EVENTS, LENGTHS, 9)
    assert torch.equal(events, EVENTS)
    assert torch.equal(lengths, LENGTHS)


def test_recent_events_by_hand() -> None:
    events, is_event = recent_events(EVENTS, LENGTHS, 3)
    assert events[:, :, 1].tolist() == [[2, 1, 0], [0, 0, 0], [6, 5, 4]]
    assert is_event.tolist() == [[True, True, False], [False] * 3, [True] * 3]
    (gradient,) = torch.autograd.grad((events * torch.tensor([[[1.0], [10], [100]]])).sum(), EVENTS)
    assert gradient[:, 0].tolist() == [10, 1, 0, 100, 10, 1]


def test_no_events_at_all() -> None:
    events, is_event = recent_events(torch.zeros(0, 2), torch.tensor([0, 0]), 3)
    assert events.tolist() == torch.zeros(2, 3, 2).tolist()
    assert not is_event.any()
    assert len(last_events(torch.zeros(0, 2), torch.tensor([0, 0]), 3)[0]) == 0
    assert recent_events(torch.zeros(0, 2), torch.tensor([], dtype=torch.int64), 3)[0].shape == (0, 3, 2)


def test_slots_of_padded_histories_are_those_of_jagged_ones() -> None:
    padded = torch.zeros(3, 5, 2)
    padded[0, :2], padded[2, :4] = EVENTS[:2].detach(), EVENTS[2:].detach()
    is_event = torch.arange(5) < LENGTHS.unsqueeze(1)
    for n_slots in (1, 3, 5, 7):
        for found, expected in zip(
            recent_slots(padded, is_event, n_slots), recent_events(EVENTS, LENGTHS, n_slots), strict=True
        ):
            assert torch.equal(found, expected)


def test_slots_of_steps_by_hand() -> None:
    steps = torch.tensor([0, 2, 0, 1, 2, 3])
    events, is_event = slots_of_steps(EVENTS, steps, LENGTHS, 4)
    assert events[:, :, 0].tolist() == [[1, 0, 2, 0], [0, 0, 0, 0], [3, 4, 5, 6]]
    assert is_event.tolist() == [[True, False, True, False], [False] * 4, [True] * 4]
