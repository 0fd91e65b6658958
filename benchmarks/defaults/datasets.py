"""The data sets of the benchmark; their schemas name columns and no training setting."""

from benchmarks.defaults import readers
from benchmarks.defaults.source import Source

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
        "criteo",
        readers.criteo,
        (2_000, 7_200),
        tuple(f"C{i}" for i in range(1, 27)),
        tuple(f"I{i}" for i in range(1, 14)),
    ),
    Source(
        "avazu",
        readers.avazu,
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
    ),
    Source(
        "ipinyou",
        readers.ipinyou,
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
            "slotprice",
        ),
        label="click",
    ),
    Source(
        "frappe",
        readers.frappe,
        (2_000, 20_000, 202_027),
        ("user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city"),
        target_item="item",
    ),
    Source(
        "kuairand",
        readers.kuairand,
        (2_000, 20_000, 228_329),
        _KUAIRAND,
        ("video_duration", "follow_user_num", "fans_user_num", "friend_user_num", "register_days"),
        "is_click",
        (
            ("watched", {"kind": "list", "column": "watch_seq", "vocabulary": "video_id"}),
            ("liked", {"kind": "list", "column": "like_seq", "vocabulary": "video_id"}),
        ),
        "video_id",
    ),
    Source(
        "movielens-100k",
        readers.movielens("ml-100k"),
        (2_000, 20_000, 100_000),
        _MOVIELENS_COLUMNS,
        label={"column": "rating", "min": 4},
        sequences=_MOVIELENS_SEQUENCES,
        target_item="movie_id",
    ),
    Source(
        "movielens-1m",
        readers.movielens("ml-1m"),
        (5_000, 50_000, 1_000_209),
        _MOVIELENS_COLUMNS,
        label={"column": "rating", "min": 4},
        sequences=_MOVIELENS_SEQUENCES,
        target_item="movie_id",
    ),
    Source(
        "generated",
        readers.toss,
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
        readers.grocery,
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
    ),
    Source(
        "fair",
        readers.fair,
        (2_000, 6_366),
        ("occupation", "occupation_husb"),
        ("rate_marriage", "age", "yrs_married", "children", "religious", "educ"),
    ),
    Source(
        "randhie",
        readers.randhie,
        (2_000, 20_190),
        (),
        ("lncoins", "idp", "lpi", "fmde", "physlm", "disea", "hlthg", "hlthf", "hlthp"),
    ),
    Source(
        "caravan",
        readers.caravan,
        (5_822,),
        _CARAVAN_TYPES,
        ("MA*", "MG*", "MR*", "MF*", "MOP*", "MB*", "MS*", "MH*", "MZ*", "MI*", "MK*", "A*", *_CARAVAN_P),
    ),
    Source("additive", readers.additive, (2_000, 30_000), ("user", "ad", "country", "campaign", "device"), ("price",)),
    Source("default", readers.default, (2_000, 10_000), ("student",), ("balance", "income")),
    Source("hastie", readers.hastie, (2_000, 20_000), (), tuple(f"x{i}" for i in range(10))),
)
