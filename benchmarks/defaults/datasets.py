"""The data sets: one flat table each, and a schema that names columns and no training setting."""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class Source:
    """A data set of which the benchmark takes the first rows."""

    name: str
    read: Callable[[int], pa.Table]
    """Reads at least the first n rows, in the order of time where there is one."""
    sizes: tuple[int, ...]
    """Numbers of rows to try; the last is replaced by all rows if there are fewer."""
    categorical: tuple[str, ...]
    numeric: tuple[str, ...] = ()
    label: Any = "label"
    sequences: tuple[tuple[str, dict[str, Any]], ...] = ()
    target_item: str | None = None
    chose: bool = True
    """Whether the defaults were chosen on it; the others only verify them."""

    def schema(self) -> dict[str, Any]:
        """The section `schema` of a config."""
        roles = {"label": self.label, "categorical": list(self.categorical), "numeric": list(self.numeric)}
        optional = {"sequences": dict(self.sequences), "target_item": self.target_item}
        return roles | {key: value for key, value in optional.items() if value}


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


def _criteo(_: int) -> pa.Table:
    return _public("criteo_sample", "criteo.parquet")


def _avazu(_: int) -> pa.Table:
    return _public("avazu_sample", "avazu.parquet")


def _ipinyou(_: int) -> pa.Table:
    return _shuffled(_public("ipinyou_sample", "impressions.parquet"))


def _shuffled(table: pa.Table) -> pa.Table:
    """Rows in a seeded order, for files that are sorted."""
    return table.take(np.random.default_rng(0).permutation(len(table)))


def _frappe(_: int) -> pa.Table:
    return _public("frappe_x1", "train.parquet")


def _kuairand(_: int) -> pa.Table:
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


def _movielens(folder: str) -> Callable[[int], pa.Table]:
    def read(_: int) -> pa.Table:
        rows = _public(folder, "ratings.parquet").sort_by([("timestamp", "ascending"), ("user_id", "ascending")])
        rows = _look_up(rows, _public(folder, "movies.parquet").select(["movie_id", "genres"]), "movie_id")
        users = _public(folder, "users.parquet").select(["user_id", "gender", "age", "occupation"])
        return _look_up(rows, users, "user_id")

    return read


def _toss(n_rows: int) -> pa.Table:
    folder = Path("data") / f"defaults-toss-{n_rows}"
    generate(GeneratorConfig(n_rows=n_rows, n_test_rows=100, seed=7), folder)
    return pq.read_table(folder / "train.parquet")


def _grocery(_: int) -> pa.Table:
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


def _fair(_: int) -> pa.Table:
    table = _packaged("statsmodels", "datasets", "fair", "fair.csv")
    return _shuffled(_with_label(table, pc.greater(table["affairs"], 0)))


def _randhie(_: int) -> pa.Table:
    table = _packaged("statsmodels", "datasets", "randhie", "randhie.csv")
    return _shuffled(_with_label(table, pc.greater(table["mdvis"], 0)))


def _caravan(_: int) -> pa.Table:
    table = _packaged("ISLP", "data", "Caravan.csv")
    return _shuffled(_with_label(table, pc.equal(table["Purchase"], "Yes")))


def _default(_: int) -> pa.Table:
    table = _packaged("ISLP", "data", "Default.csv")
    return _shuffled(_with_label(table, pc.equal(table["default"], "Yes")))


def _hastie(n_rows: int) -> pa.Table:
    """Ten normal columns; positive if their squared norm is above its median (Hastie et al., 2009, example 10.2)."""
    x, y = make_hastie_10_2(n_samples=n_rows, random_state=3)
    return pa.table({f"x{i}": x[:, i] for i in range(10)} | {"label": (y > 0).astype(np.int8)})


_CARAVAN_TYPES = ("MOSTYPE", "MOSHOOFD")
_CARAVAN_P = ("PW*", "PP*", "PB*", "PV*", "PA*", "PT*", "PL*", "PG*", "PZ*", "PF*", "PI*")
_KUAIRAND = (
    *("user_id", "video_id", "tab", "hourmin", "author_id", "video_type", "upload_type", "music_id", "tag"),
    *("user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author", "friend_user_num_range"),
    *("register_days_range", *(f"onehot_feat{i}" for i in range(18))),
)
_MOVIELENS_SEQUENCES = (
    ("genres", {"kind": "delimited", "delimiter": "|"}),
    (
        "liked",
        {
            "kind": "log",
            "key": "user_id",
            "item": "movie_id",
            "order": "timestamp",
            "where": {"column": "rating", "min": 4},
        },
    ),
    ("seen", {"kind": "log", "key": "user_id", "item": "movie_id", "order": "timestamp"}),
)
_MOVIELENS_COLUMNS = ("user_id", "movie_id", "gender", "age", "occupation")
_TOSS_CATEGORICAL = (
    *("gender", "age_group", "inventory_id", "hour"),
    *(f"l_feat_{i}" for i in range(1, 28) if i not in (16, 17, 20, 23)),
)

SOURCES = (
    Source(
        "criteo", _criteo, (2_000, 7_200), tuple(f"C{i}" for i in range(1, 27)), tuple(f"I{i}" for i in range(1, 14))
    ),
    Source(
        "avazu",
        _avazu,
        (2_000, 8_087),
        (
            "C1",
            "banner_pos",
            "site_id",
            "site_domain",
            "site_category",
            "app_id",
            "app_domain",
            "app_category",
            "device_id",
            "device_ip",
            "device_model",
            "device_type",
            "device_conn_type",
            *(f"C{i}" for i in range(14, 22)),
        ),
        label="click",
        chose=False,
    ),
    Source(
        "ipinyou",
        _ipinyou,
        (47_923,),
        (
            "weekday",
            "hour",
            "useragent",
            "IP",
            "region",
            "city",
            "adexchange",
            "domain",
            "slotid",
            "slotwidth",
            "slotheight",
            "slotvisibility",
            "slotformat",
            "creative",
            "advertiser",
        ),
        ("slotprice",),
        label="click",
        chose=False,
    ),
    Source(
        "frappe",
        _frappe,
        (2_000, 20_000, 202_027),
        ("user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city"),
        target_item="item",
        chose=False,
    ),
    Source(
        "kuairand",
        _kuairand,
        (2_000, 20_000, 228_329),
        _KUAIRAND,
        ("video_duration", "follow_user_num", "fans_user_num", "friend_user_num", "register_days"),
        "is_click",
        (
            ("watched", {"kind": "list", "column": "watch_seq", "vocabulary": "video_id"}),
            ("liked", {"kind": "list", "column": "like_seq", "vocabulary": "video_id"}),
        ),
        "video_id",
        chose=False,
    ),
    Source(
        "movielens-100k",
        _movielens("ml-100k"),
        (2_000, 20_000, 100_000),
        _MOVIELENS_COLUMNS,
        label={"column": "rating", "min": 4},
        sequences=_MOVIELENS_SEQUENCES,
        target_item="movie_id",
    ),
    Source(
        "movielens-1m",
        _movielens("ml-1m"),
        (5_000, 50_000, 1_000_209),
        _MOVIELENS_COLUMNS,
        label={"column": "rating", "min": 4},
        sequences=_MOVIELENS_SEQUENCES,
        target_item="movie_id",
        chose=False,
    ),
    Source(
        "generated",
        _toss,
        (2_000, 20_000, 200_000),
        _TOSS_CATEGORICAL,
        tuple(
            [f"feat_{x}_{i}" for x, n in (("a", 18), ("b", 6), ("c", 8), ("d", 6), ("e", 10)) for i in range(1, n + 1)]
        ),
        "clicked",
        (("seq", {"kind": "delimited"}),),
        "l_feat_14",
    ),
    Source(
        "grocery",
        _grocery,
        (2_000, 20_000, 200_000),
        ("user_id", "item_id", "i_category"),
        target_item="item_id",
        sequences=(
            (
                "bought",
                {
                    "kind": "log",
                    "key": "user_id",
                    "item": "item_id",
                    "order": "time",
                    "where": {"column": "label", "min": 1},
                },
            ),
        ),
        chose=False,
    ),
    Source(
        "fair",
        _fair,
        (2_000, 6_366),
        ("occupation", "occupation_husb"),
        ("rate_marriage", "age", "yrs_married", "children", "religious", "educ"),
    ),
    Source(
        "randhie",
        _randhie,
        (2_000, 20_190),
        (),
        ("lncoins", "idp", "lpi", "fmde", "physlm", "disea", "hlthg", "hlthf", "hlthp"),
        chose=False,
    ),
    Source(
        "caravan",
        _caravan,
        (5_822,),
        _CARAVAN_TYPES,
        ("MA*", "MG*", "MR*", "MF*", "MOP*", "MB*", "MS*", "MH*", "MZ*", "MI*", "MK*", "A*", *_CARAVAN_P),
    ),
    Source("default", _default, (2_000, 10_000), ("student",), ("balance", "income"), chose=False),
    Source("hastie", _hastie, (2_000, 20_000), (), tuple(f"x{i}" for i in range(10))),
)
