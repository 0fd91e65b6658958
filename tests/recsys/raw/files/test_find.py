"""Files by paths, folders and patterns; partition columns; files named twice."""

from pathlib import Path

import pytest

from recsys.errors import InputError
from recsys.raw.files.find import check_distinct, display_name, find_beside, find_file, find_files, partition_values


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def found(folder: Path, *paths: str) -> list[str]:
    return [str(path.relative_to(folder)) for path in find_files(paths, folder)]


def test_a_folder_stands_for_its_files_and_those_of_its_partitions(tmp_path: Path) -> None:
    make(tmp_path, "d/b.parquet", "d/a.parquet", "d/day=1/p.parquet", "d/day=1/h=2/q.parquet", "d/old/x.parquet")
    make(tmp_path, "d/_SUCCESS", "d/.a.parquet.crc", "d/_temporary/t.parquet", "d/readme.txt")
    assert found(tmp_path, "d") == ["d/a.parquet", "d/b.parquet", "d/day=1/h=2/q.parquet", "d/day=1/p.parquet"]
    make(tmp_path, "texts/b.tsv.gz", "texts/a.csv", "texts/notes.txt")
    assert found(tmp_path, "texts") == ["texts/a.csv", "texts/b.tsv.gz"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("d/*/*.parquet", ["d/day=1/p.parquet", "d/day=2/p.parquet"]),
        ("d/**/*.parquet", ["d/a.parquet", "d/day=1/p.parquet", "d/day=2/p.parquet", "d/old/2024/x.parquet"]),
        ("d/day=*", ["d/day=1/p.parquet", "d/day=2/p.parquet"]),
        ("d/day=[2-9]", ["d/day=2/p.parquet"]),
        ("d/day=1", ["d/day=1/p.parquet"]),
        ("d/*", ["d/a.parquet", "d/day=1/p.parquet", "d/day=2/p.parquet"]),
        ("d/?.parquet", ["d/a.parquet"]),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    make(tmp_path, "d/a.parquet", "d/day=1/p.parquet", "d/day=2/p.parquet", "d/old/2024/x.parquet")
    assert found(tmp_path, pattern) == expected


def test_a_path_that_exists_is_no_pattern(tmp_path: Path) -> None:
    make(tmp_path, "run[1]/a[0].parquet", "run[1]/a0.parquet", "run1/a[0].parquet")
    assert found(tmp_path, "run[1]/a[0].parquet") == ["run[1]/a[0].parquet"]
    assert found(tmp_path, "run[1]/a*.parquet") == ["run[1]/a0.parquet", "run[1]/a[0].parquet"]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (("d/absent.parquet",), "absent.parquet does not exist.*: correct the path"),
        (("d/x*.parquet",), "x.* matches no file"),
        (("plain",), r"plain has no parquet, CSV or TSV file: name its files by a pattern, such as .*\*\*/\*.parquet"),
        (("mixed",), r"mixed has parquet files \(a.parquet\) and CSV or TSV files \(b.CSV\): name those to read"),
        (("d", "d/a.parquet"), "a.parquet is matched twice, by 'd' and 'd/a.parquet'"),
        (("d/a.parquet", "d/../d/a.parquet"), "is matched twice"),
        (("d/a.parquet", "link.parquet"), "link.parquet is matched twice.* is the same file"),
    ],
)
def test_wrong_paths_are_refused(tmp_path: Path, paths: tuple[str, ...], message: str) -> None:
    make(tmp_path, "d/a.parquet", "plain/2024/x.parquet", "mixed/a.parquet", "mixed/d=1/b.CSV")
    (tmp_path / "link.parquet").symlink_to(tmp_path / "d" / "a.parquet")
    with pytest.raises(InputError, match=message):
        find_files(paths, tmp_path)


def test_one_file_is_not_two_partitions_of_the_data(tmp_path: Path) -> None:
    make(tmp_path, "a.parquet", "b.parquet")
    a, b = tmp_path / "a.parquet", tmp_path / "b.parquet"
    check_distinct({"train": [a], "valid": [], "test": [b]})
    with pytest.raises(InputError, match="a.parquet is both a train file and a test file"):
        check_distinct({"train": [a], "valid": [], "test": [b, a]})


def test_a_role_of_one_file(tmp_path: Path) -> None:
    make(tmp_path, "d/a.parquet", "d/b.parquet")
    assert find_file("d/a.parquet", tmp_path, "files.truth") == tmp_path / "d" / "a.parquet"
    with pytest.raises(InputError, match=r"files.truth: .*d/\*.parquet matches 2 files, expected one"):
        find_file("d/*.parquet", tmp_path, "files.truth")


def test_a_file_beside_the_data_may_be_above_its_folders(tmp_path: Path) -> None:
    make(tmp_path, "ads.parquet", "hive/day=1/p.parquet", "hive/shops.parquet", "items/a.parquet", "items/b.parquet")
    for folder in ("hive/day=1", "hive/day=*", "hive/day=*/x", "hive", "."):
        assert find_beside(["ads.parquet"], tmp_path / folder) == [tmp_path / "ads.parquet"]
        items = [tmp_path / "items" / name for name in ("a.parquet", "b.parquet")]
        assert find_beside(["items/*.parquet"], tmp_path / folder) == items
        assert find_beside(["items/b.parquet", "items/a.parquet"], tmp_path / folder) == items[::-1]
    both = find_beside(["shops.parquet", "ads.parquet"], tmp_path / "hive" / "day=1")
    assert both == [tmp_path / "hive" / "shops.parquet", tmp_path / "ads.parquet"]
    for path, message in (("absent.parquet", "does not exist"), ("absent/*.parquet", "matches no file")):
        with pytest.raises(InputError, match=message):
            find_beside([path], tmp_path / "hive")


def test_partition_values() -> None:
    path = Path("/x=1/data/day=2025-01-01/city=S%C3%A3o%20Paulo/part-0.parquet")
    assert partition_values(path) == {"day": "2025-01-01", "city": "São Paulo"}
    assert display_name(path) == "day=2025-01-01/city=S%C3%A3o%20Paulo/part-0.parquet"
    assert partition_values(Path("d/day=__HIVE_DEFAULT_PARTITION__/p.parquet")) == {"day": None}
    assert partition_values(Path("d/p.parquet")) == {}
