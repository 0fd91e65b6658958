from benchmarks.histories import histories
from recsys.system.progress import console


def test_every_length_has_a_row() -> None:
    with console.capture() as printed:
        histories(rows=3, length=[2, 5])
    rows = [line.split("│") for line in printed.get().splitlines() if line.startswith("│")]
    assert [int(cells[1]) for cells in rows] == [2, 5]
    assert all(int(cell.replace(",", "")) > 0 for cells in rows for cell in cells[2:5])
