"""Frappe and MovieLens: raw text written by hand, and the public parquet files written back as raw text."""

import re
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.helpers.commands import Run
from tests.helpers.public_data import Convert, assert_equal, rows_of, text_rows, write

GENRES = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror Musical "
    "Mystery Romance Sci-Fi Thriller War Western"
)
FIELDS = ["user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city"]
LIBFM = {
    "frappe.train.libfm": "-1 0:1 957:1 5041:1 5046:1 5053:1 5055:1 5058:1 5060:1 5069:1 5149:1\n",
    "frappe.validation.libfm": "1 11:1 958:1 5041:1 5046:1 5053:1 5055:1 5058:1 5060:1 5069:1 5149:1\r\n",
    "frappe.test.libfm": "1 2:1 959:1 5041:1 5046:1 5053:1 5055:1 5058:1 5060:1 5069:1 5150:1",
}
CONTEXT = (5041, 5046, 5053, 5055, 5058, 5060, 5069)


def test_frappe_in_libfm(tmp_path: Path, converted: Convert) -> None:
    folder = converted("frappe", write(tmp_path / "nfm", {f"data/frappe/{name}": text for name, text in LIBFM.items()}))
    assert pq.read_schema(folder / "train.parquet").names == ["label", *FIELDS]
    assert rows_of(folder / "train.parquet") == [(0, 0, 957, *CONTEXT, 5149)]
    assert rows_of(folder / "valid.parquet") == [(1, 11, 958, *CONTEXT, 5149)]
    assert rows_of(folder / "test.parquet") == [(1, 2, 959, *CONTEXT, 5150)]


def test_frappe_in_csv(tmp_path: Path, converted: Convert) -> None:
    text = ",".join(["label", *FIELDS]) + "\r\n0,0,957,5041,5046,5053,5055,5058,5060,5069,5149\r\n"
    folder = converted("frappe", write(tmp_path / "x1", {f"{part}.csv": text for part in ("train", "valid", "test")}))
    assert rows_of(folder / "valid.parquet") == [(0, 0, 957, *CONTEXT, 5149)]


@pytest.mark.parametrize("kind", ["libfm", "csv"])
def test_frappe_from_its_text(public_data: Path, tmp_path: Path, converted: Convert, kind: str) -> None:
    tables, files = {}, {}
    for part, name in (("train", "train"), ("valid", "validation"), ("test", "test")):
        tables[part] = table = pq.read_table(public_data / "frappe_x1" / f"{part}.parquet").slice(0, 300)
        if kind == "csv":
            files[f"{part}.csv"] = text_rows(table, ",", header=True).replace("\n", "\r\n")
        else:
            rows = [[2 * row["label"] - 1, *(f"{row[name]}:1" for name in FIELDS)] for row in table.to_pylist()]
            files[f"frappe.{name}.libfm"] = "\n".join(" ".join(map(str, row)) for row in rows) + "\n"
    folder = converted("frappe", write(tmp_path / "raw", files))
    for part, table in tables.items():
        assert_equal(folder / f"{part}.parquet", table)


ML_1M = {
    "ratings.dat": "1::1193::5::978300760\n1::661::3::978302109\n",
    "movies.dat": '1::Misérables, Les: "X" (1995)::Animation|Children\'s|Comedy\n2::Jumanji (1995)::Adventure\n',
    "users.dat": "1::F::1::10::48067\n2::M::56::16::98107-2117\n",
}


@pytest.mark.parametrize("is_archive", [False, True])
def test_movielens_1m(tmp_path: Path, converted: Convert, is_archive: bool) -> None:
    source = write(tmp_path / "ml-1m", ML_1M, "latin-1")
    if is_archive:
        with zipfile.ZipFile(tmp_path / "ml-1m.zip", "w") as archive:
            for name in ML_1M:
                archive.write(source / name, f"ml-1m/{name}")
        source = tmp_path / "ml-1m.zip"
    folder = converted("movielens-1m", source)
    assert pq.read_schema(folder / "ratings.parquet").names == ["user_id", "movie_id", "rating", "timestamp"]
    assert rows_of(folder / "ratings.parquet") == [(1, 1193, 5, 978300760), (1, 661, 3, 978302109)]
    assert rows_of(folder / "movies.parquet") == [
        (1, 'Misérables, Les: "X" (1995)', "Animation|Children's|Comedy"),
        (2, "Jumanji (1995)", "Adventure"),
    ]
    assert rows_of(folder / "users.parquet") == [(1, "F", 1, 10, "48067"), (2, "M", 56, 16, "98107-2117")]


def flags(*set_flags: int) -> str:
    return "|".join(str(int(k in set_flags)) for k in range(19))


ML_100K = {
    "u.data": "196\t242\t3\t881250949\n",
    "u.item": f"1|Toy Story (1995)|01-Jan-1995||http://x?title-exact=Toy%20Story|{flags(3, 4, 5)}\n"
    f"267|unknown||||{flags(0)}\n543|Misérables, Les (1995)|01-Jan-1995||u|{flags(8, 18)}\n",
    "u.user": "1|24|M|technician|85711\n",
}


def test_movielens_100k(tmp_path: Path, converted: Convert) -> None:
    folder = converted("movielens-100k", write(tmp_path, {f"ml-100k/{n}": t for n, t in ML_100K.items()}, "latin-1"))
    assert rows_of(folder / "ratings.parquet") == [(196, 242, 3, 881250949)]
    assert rows_of(folder / "movies.parquet") == [
        (1, "Toy Story (1995)", "01-Jan-1995", "Animation|Children's|Comedy"),
        (267, "unknown", None, "unknown"),
        (543, "Misérables, Les (1995)", "01-Jan-1995", "Drama|Western"),
    ]
    assert rows_of(folder / "users.parquet") == [(1, 24, "M", "technician", "85711")]


def test_movielens_1m_from_its_text(public_data: Path, tmp_path: Path, converted: Convert) -> None:
    names = ("ratings", "movies", "users")
    tables = {name: pq.read_table(public_data / "ml-1m" / f"{name}.parquet").slice(0, 2000) for name in names}
    source = write(tmp_path / "raw", {f"{n}.dat": text_rows(t, "::") for n, t in tables.items()}, "latin-1")
    folder = converted("movielens-1m", source)
    for name, table in tables.items():
        assert_equal(folder / f"{name}.parquet", table)


def test_movielens_100k_from_its_text(public_data: Path, tmp_path: Path, converted: Convert) -> None:
    data = public_data / "ml-100k"
    ratings = pq.read_table(data / "ratings.parquet", columns=["user_id", "movie_id", "rating", "timestamp"])
    ratings, movies, users = ratings.slice(0, 500), *(pq.read_table(data / f"{n}.parquet") for n in ("movies", "users"))
    nothing = pa.array([""] * movies.num_rows)
    items = movies.drop_columns(["genres"]).append_column("video", nothing).append_column("url", nothing)
    has = [[int(genre in text.split("|")) for text in movies["genres"].to_pylist()] for genre in GENRES.split()]
    for genre, flag in zip(GENRES.split(), has, strict=True):
        items = items.append_column(genre, pa.array(flag))
    files = {"u.data": text_rows(ratings, "\t"), "u.item": text_rows(items, "|"), "u.user": text_rows(users, "|")}
    folder = converted("movielens-100k", write(tmp_path / "raw", files, "latin-1"))
    assert_equal(folder / "ratings.parquet", ratings)
    assert_equal(folder / "movies.parquet", movies)
    assert_equal(folder / "users.parquet", users)
    assert pc.all(pc.is_valid(pq.read_table(folder / "movies.parquet")["genres"])).as_py()


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("frappe", LIBFM | {"frappe.test.libfm": "1 2:0.5 959:1\n"}, "frappe.test.libfm is not the file .*label, user"),
        ("movielens-1m", {**ML_1M, "users.dat": "1,F,1,10,48067\n"}, "users.dat is not the file .*Expected 5 columns"),
        ("movielens-1m", ML_100K, "has no file ratings.dat"),
        ("movielens-100k", {**ML_100K, "u.data": "a\t1\t2\t3\n"}, "u.data is not the file .*invalid value 'a'"),
    ],
)
def test_a_wrong_download_is_refused(tmp_path: Path, run: Run, name: str, files: dict[str, str], message: str) -> None:
    outcome = run("convert", name, "--source", write(tmp_path / "raw", files, "latin-1"), "--out", tmp_path / "out")
    assert outcome.code == 2
    assert re.search(message, outcome.err), outcome.err
    assert not list(tmp_path.glob("out*"))
