import pytest
import torch

from recsys.nn.jagged import EventRows, PaddedRows, mean_by_row, row_of_event, softmax_by_row, sum_by_row

LENGTHS = torch.tensor([2, 0, 3, 0])
EVENTS = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0], [9.0, 1.0]])


def test_rows_sums_and_means_by_hand() -> None:
    row = row_of_event(LENGTHS, 5)
    assert row.tolist() == [0, 0, 2, 2, 2]
    assert sum_by_row(EVENTS, row, 4).tolist() == [[4, 6], [0, 0], [21, 15], [0, 0]]
    assert mean_by_row(EVENTS, LENGTHS).tolist() == [[2, 3], [0, 0], [7, 5], [0, 0]]
    assert mean_by_row(EVENTS[:0], torch.tensor([0, 0])).tolist() == [[0, 0], [0, 0]]


def test_softmax_sums_to_one_within_each_row() -> None:
    score = torch.tensor([1.0, 3.0, 1000.0, -2.0, 5.0])
    row = torch.tensor([0, 0, 2, 3, 3])
    expected = [*torch.tensor([1.0, 3.0]).softmax(0), torch.tensor(1.0), *torch.tensor([-2.0, 5.0]).softmax(0)]
    assert torch.allclose(softmax_by_row(score, row, 4), torch.stack(expected))


def test_unpad_inverts_pad() -> None:
    padded = PaddedRows(LENGTHS)
    assert padded.position.tolist() == [0, 1, 0, 1, 2]
    x = padded.pad(EVENTS)
    assert x.shape == (4, 3, 2)
    assert x[1].tolist() == [[0, 0], [0, 0], [0, 0]]
    assert x[0].tolist() == [[1, 2], [3, 4], [0, 0]]
    assert torch.equal(padded.unpad(x), EVENTS)


@pytest.mark.parametrize("name", ["spread", "sum"])
def test_sums_of_a_gpu_are_those_of_a_cpu(name: str) -> None:
    """Through padded rows, with gradients."""
    lengths = torch.tensor([2, 0, 3, 1])
    results = []
    for is_padded in (False, True):
        rows = EventRows(lengths, 6, 4)
        rows._offsets = torch.tensor([0, 2, 2, 5, 6]) if is_padded else None
        x = torch.arange(24.0).view(-1, 3 if name == "spread" else 4)[: 4 if name == "spread" else 6].requires_grad_()
        y = getattr(rows, name)(x)
        (y * torch.arange(y.numel()).view_as(y)).sum().backward()
        results.append((y.detach(), x.grad))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
