"""The notebook runs from the raw file to the report, in a kernel of its own."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "docs/notebooks/from_raw_file_to_report.ipynb"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[nbformat.NotebookNode]:
    """The cells after a run; an error in one of them fails."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    root = str(Path(__file__).parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    assert (folder / "runs/plan/report.html").is_file()
    assert len((folder / "runs/plan/submission.csv").read_text().splitlines()) == 1001
    return list(notebook.cells)


def text_of(cell: nbformat.NotebookNode) -> str:
    """The text that a cell printed or returned."""
    return "".join(out.get("text") or out.get("data", {}).get("text/plain", "") for out in cell.get("outputs", []))


def test_the_difference_has_an_interval_by_user(cells: list[nbformat.NotebookNode]) -> None:
    compared = next(text_of(cell) for cell in cells if "gatectr.compare" in cell.source and cell.cell_type == "code")
    assert " users" in compared
    assert "logloss" in compared
    assert ".." in compared


def test_the_gate_decides_and_new_rows_have_probabilities(cells: list[nbformat.NotebookNode]) -> None:
    decided = next(text_of(cell) for cell in cells if "verdict" in cell.source and cell.cell_type == "code")
    assert decided.startswith(("adopt - ", "reject - "))
    assert "array([0." in text_of(cells[-1])


def test_nothing_is_printed_beside_the_results(cells: list[nbformat.NotebookNode]) -> None:
    streams = [out.text for cell in cells for out in cell.get("outputs", []) if out.get("name") == "stderr"]
    assert streams == []


def test_the_file_has_no_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in notebook.cells)
