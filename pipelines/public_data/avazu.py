"""Avazu: the Kaggle Click-Through Rate Prediction challenge's train and test files, with the hour as YYMMDDHH."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.public_data.blocks import read_blocks, write_blocks
from pipelines.public_data.download import Download
from recsys.errors import InputError

_TEXT = [f"{owner}_{part}" for owner in ("site", "app") for part in ("id", "domain", "category")]
_TEXT += ["device_id", "device_ip", "device_model"]
_NUMBERS = ["device_type", "device_conn_type", *(f"C{k}" for k in range(14, 22))]
FEATURES = (
    {"hour": pa.string(), "C1": pa.int32(), "banner_pos": pa.int32()}
    | dict.fromkeys(_TEXT, pa.string())
    | dict.fromkeys(_NUMBERS, pa.int32())
)
TEST_TYPES = {"id": pa.uint64()} | FEATURES
TYPES = {"id": pa.uint64(), "click": pa.int8()} | FEATURES
_N_TRAIN, _N_TEST = 40_428_967, 4_577_464


def convert(download: Download, folder: Path) -> None:
    """Writes avazu.parquet and, if the download has a test file, avazu_test.parquet without labels."""
    train = download.require("train.csv", "train", "avazu.parquet")
    test = download.find("test.csv", "test")
    write_blocks(_with_times(read_blocks(download, train, TYPES), train), folder / "avazu.parquet", _N_TRAIN)
    if test is not None:
        blocks = _with_times(read_blocks(download, test, TEST_TYPES), test)
        write_blocks(blocks, folder / "avazu_test.parquet", _N_TEST)


def _with_times(blocks: Iterable[pa.RecordBatch], file: str) -> Iterator[pa.RecordBatch]:
    """Replaces `hour` by the day, the weekday (0 is Monday) and the hour of the day.

    Raises:
        InputError: for an hour that is not YYMMDDHH.
    """
    for block in blocks:
        hour = block["hour"]
        is_hour = pc.fill_null(pc.match_substring_regex(hour, r"^\d{8}$"), False)
        times = pc.strptime(pc.if_else(is_hour, hour, None), "%y%m%d%H", "s", error_is_null=True)
        if times.null_count:
            wrong = hour.filter(pc.is_null(times))[0].as_py()
            raise InputError(f"{file}: column 'hour' contains {wrong!r}, expected YYMMDDHH: pass the original download")
        derived = {
            "day": times.cast(pa.date32()),
            "weekday": pc.day_of_week(times).cast(pa.int8()),
            "hour_of_day": pc.hour(times).cast(pa.int8()),
        }
        columns = {name: block[name] for name in block.schema.names}
        index = list(columns).index("hour")
        items = [*list(columns.items())[:index], *derived.items(), *list(columns.items())[index + 1 :]]
        yield pa.RecordBatch.from_pydict(dict(items))
