from pathlib import Path

from recsys.report.html import Section, Table, row, write_html
from recsys.report.tables import TextRow, text_table


def test_empty_columns_are_left_out() -> None:
    rows = [TextRow(("a", "", "1", "-")), TextRow(("b", "", "-", "-"), "bold", ends_section=True)]
    table = text_table("title", ("name", "gate", "AP", "PR-AUC"), rows)
    assert [(column.header, column.justify) for column in table.columns] == [("name", "left"), ("AP", "right")]
    assert [list(column.cells) for column in table.columns] == [["a", "b"], ["1", "-"]]
    assert [column.header for column in text_table("title", ("name", "AP"), []).columns] == ["name", "AP"]


def test_empty_columns_of_a_report_are_left_out(tmp_path: Path) -> None:
    table = Table(
        ("run", "gate", "note", "AP"), (row(["a", "", "text", "1"]), row(["b", "", "", ""])), text_columns=(2,)
    )
    assert table.without_empty_columns().columns == ("run", "note", "AP")
    write_html("title", "", [Section("S", blocks=[table])], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "gate" not in page
    assert '<th class="text">note</th>' in page
