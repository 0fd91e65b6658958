"""MovieLens-1M (`::` between cells) and MovieLens-100K (tabs and `|`): ratings, movies and users; text is latin-1."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.public_data.blocks import TextFormat, read_table
from pipelines.public_data.download import Download

_RATINGS = {"user_id": pa.int16(), "movie_id": pa.int16(), "rating": pa.int8(), "timestamp": pa.int32()}
_UNIT = "\x1f"  # no file contains it
_COLONS = TextFormat(
    delimiter=_UNIT,
    has_header=False,
    has_quotes=False,
    encoding="latin1",
    translate=lambda text: text.replace(b"::", _UNIT.encode()),
)
_TABS = TextFormat(delimiter="\t", has_header=False, has_quotes=False)
_BARS = TextFormat(delimiter="|", has_header=False, has_quotes=False, encoding="latin1")
_GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
"""The genres of u.item's flags, in the order of its columns."""


def convert_1m(download: Download, folder: Path) -> None:
    """Writes ratings.parquet, movies.parquet and users.parquet from ratings.dat, movies.dat and users.dat."""
    types = {
        "ratings": _RATINGS,
        "movies": {"movie_id": pa.int16(), "title": pa.string(), "genres": pa.string()},
        "users": {
            "user_id": pa.int16(),
            "gender": pa.string(),
            "age": pa.int8(),
            "occupation": pa.int8(),
            "zip": pa.string(),
        },
    }
    files = {name: download.require(f"{name}.dat") for name in types}
    for name, file in files.items():
        pq.write_table(read_table(download, file, types[name], _COLONS), folder / f"{name}.parquet")


def convert_100k(download: Download, folder: Path) -> None:
    """Writes ratings.parquet, movies.parquet and users.parquet from u.data, u.item and u.user."""
    ratings, movies, users = (download.require(name) for name in ("u.data", "u.item", "u.user"))
    pq.write_table(read_table(download, ratings, _RATINGS, _TABS), folder / "ratings.parquet")
    text = dict.fromkeys(("title", "release_date", "video_release_date", "url"), pa.string())
    item_types = {"movie_id": pa.int16()} | text | dict.fromkeys(_GENRES, pa.int8())
    table = read_table(download, movies, item_types, _BARS)
    genres = [pc.if_else(pc.equal(table[genre], 1), genre, None) for genre in _GENRES]
    joined = pc.binary_join_element_wise(*genres, "|", null_handling="skip")
    table = table.select(["movie_id", "title", "release_date"]).append_column("genres", joined)
    pq.write_table(table, folder / "movies.parquet")
    user_types = {"user_id": pa.int16(), "age": pa.int8()} | dict.fromkeys(("gender", "occupation", "zip"), pa.string())
    pq.write_table(read_table(download, users, user_types, _BARS), folder / "users.parquet")
