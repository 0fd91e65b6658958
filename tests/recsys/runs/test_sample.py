from pathlib import Path

import pytest

from recsys.errors import InputError
from recsys.runs.sample import check_utf8, read_sample


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        (b"id,score\na,0\n", ["a"]),
        (b"\xef\xbb\xbfid,score\r\na,0\r\n", ["a"]),
        (b'"id","score"\n"a",0\n"b,c",0\n"d\ne",0\n"f""g",0\n', ["a", "b,c", "d\ne", 'f"g']),
        (b"id,score\n007,0\n7,0\nNA,0\n,0\n", ["007", "7", "NA", ""]),
        ("id,score\nü,0\n한국,0\n".encode(), ["ü", "한국"]),
    ],
    ids=["plain", "byte order mark", "quoted", "unusual", "not ascii"],
)
def test_ids_are_read_as_text(tmp_path: Path, content: bytes, ids: list[str]) -> None:
    path = tmp_path / "sample.csv"
    path.write_bytes(content)
    sample = read_sample(path)
    assert (sample.id_name, sample.label_name) == ("id", "score")
    assert sample.ids.to_pylist() == ids


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a readable CSV file"),
        (b"id,score\n", "has a header and no rows"),
        (b"id\na\n", "has 1 columns"),
        (b"a,a\nx,0\n", "has two columns named 'a'"),
        (b"id,score\na,0\nb,0\nc,0,0\n", "is not a readable CSV file .*Expected 2 columns, got 3"),
        (b"id,score\na,0\nb,0\na,0\n", "repeats an id in column 'id': row 3 has 'a', as row 1 has"),
        (b"id,score\n,0\nb,0\n,0\n", "repeats an id in column 'id': row 3 has '', as row 1 has"),
        ("id,score\na,0\n한,0\n".encode("cp949"), "is not UTF-8 text: see line 3, and save the file as UTF-8"),
        ("idü,score\n".encode("latin-1"), "see line 1"),
        ("id,score\na,0\n".encode("utf-16"), "see line 1"),
        ("id,score\na,0\n".encode("utf-16-le"), "see line 1"),
        ("id,score\nü".encode()[:-1], "see line 2"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "sample.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"sample.csv .*{message}|sample.csv {message}"):
        read_sample(path)


def test_a_character_may_lie_on_the_border_of_two_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.runs.sample._BLOCK_BYTES", 3)
    path = tmp_path / "text.csv"
    path.write_text("ü한\n" * 5, encoding="utf-8")
    check_utf8(path)
    path.write_bytes("ü한\n".encode() * 5 + b"ok\n\xff\n")
    with pytest.raises(InputError, match="see line 7"):
        check_utf8(path)


def test_a_folder_or_a_missing_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(InputError, match="cannot be read"):
            read_sample(path)
