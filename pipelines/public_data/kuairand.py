"""KuaiRand-Pure: the impressions from 25 April on, split by day, and each user's history of the days before."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.public_data.blocks import read_table
from pipelines.public_data.download import Download
from recsys.errors import InputError

TRAIN_FROM, VALID_FROM, TEST_FROM = 20220425, 20220504, 20220506
"""The first days of the training, validation and test rows, as the log writes days; earlier rows are the history."""
MAX_HISTORY = 50

_FLAGS = ("is_click", "long_view", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "is_profile_enter")
LOG_TYPES = (
    {"user_id": pa.int16(), "video_id": pa.int16(), "date": pa.int32(), "hourmin": pa.int16(), "time_ms": pa.int64()}
    | dict.fromkeys(("tab", *_FLAGS, "is_rand"), pa.int8())
    | dict.fromkeys(("play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time"), pa.int32())
)
_COUNTS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
USER_TYPES = (
    {"user_id": pa.int16(), "user_active_degree": pa.string()}
    | dict.fromkeys(("is_lowactive_period", "is_live_streamer", "is_video_author"), pa.int8())
    | {name: dtype for count in _COUNTS for name, dtype in ((count, pa.int32()), (f"{count}_range", pa.string()))}
    | {f"onehot_feat{k}": pa.float32() for k in range(18)}
)
_VIDEO_NUMBERS = ("visible_status", "video_duration", "server_width", "server_height", "music_type")
VIDEO_TYPES = (
    {"video_id": pa.int16(), "author_id": pa.float64(), "music_id": pa.float64()}  # whole numbers below 2^53
    | dict.fromkeys(("video_type", "upload_dt", "upload_type", "tag"), pa.string())
    | dict.fromkeys(_VIDEO_NUMBERS, pa.float32())
)


def convert(download: Download, folder: Path) -> None:
    """Writes interactions.parquet, user_history.parquet, users.parquet and items.parquet."""
    logs = [download.require(f"log_standard_{days}_pure.csv") for days in ("4_08_to_4_21", "4_22_to_5_08")]
    users = download.require("user_features_pure.csv")
    videos, statistics = (download.require(f"video_features_{kind}_pure.csv") for kind in ("basic", "statistic"))
    pq.write_table(read_table(download, users, USER_TYPES), folder / "users.parquet")
    pq.write_table(
        _items(read_table(download, videos, VIDEO_TYPES), read_table(download, statistics, {})),
        folder / "items.parquet",
    )
    log = pa.concat_tables([read_table(download, file, LOG_TYPES) for file in logs])
    log = log.sort_by([(name, "ascending") for name in ("time_ms", "user_id", "video_id")])
    is_history = pc.less(log["date"], TRAIN_FROM)
    rows = log.filter(pc.invert(is_history))
    if rows.num_rows == 0:
        raise InputError(f"{download.path}: {logs[1]} has no rows from {TRAIN_FROM} on: pass the original download")
    is_test, is_valid = (pc.greater_equal(rows["date"], day) for day in (TEST_FROM, VALID_FROM))
    split = pc.if_else(is_test, "test", pc.if_else(is_valid, "valid", "train"))
    pq.write_table(rows.append_column("split", split), folder / "interactions.parquet")
    pq.write_table(histories(log.filter(is_history)), folder / "user_history.parquet")


def histories(log: pa.Table) -> pa.Table:
    """Returns each user's last videos: all that were shown, those liked, and those watched for long.

    Args:
        log: impressions in order of time.
    """
    users = np.unique(log["user_id"].to_numpy())
    order = np.argsort(log["user_id"].to_numpy(), kind="stable")
    log = log.take(pa.array(order))
    lengths = np.bincount(np.searchsorted(users, log["user_id"].to_numpy()), minlength=len(users))
    last = np.cumsum(lengths) - 1
    columns = {
        "user_id": pa.array(users),
        "history_len": pa.array(lengths.astype(np.int32)),
        "last_time_ms": log["time_ms"].take(pa.array(last)),
    }
    for name, flag in (("watch_seq", None), ("like_seq", "is_like"), ("long_watch_seq", "long_view")):
        steps = log if flag is None else log.filter(pc.equal(log[flag], 1))
        columns[name] = _last_lists(steps, users)
    return pa.table(columns)


def _last_lists(steps: pa.Table, users: np.ndarray) -> pa.Array:
    """Returns the last videos of each user as lists, from steps sorted by user and time."""
    user = np.searchsorted(users, steps["user_id"].to_numpy())
    n_steps = np.bincount(user, minlength=len(users))
    from_end = np.cumsum(n_steps)[user] - np.arange(len(user))  # 1 for a user's last step
    kept = pa.array(from_end <= MAX_HISTORY)
    offsets = np.concatenate([[0], np.cumsum(np.minimum(n_steps, MAX_HISTORY))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), steps["video_id"].combine_chunks().filter(kept))


def _items(videos: pa.Table, statistics: pa.Table) -> pa.Table:
    """Joins the features of videos with their statistics of the whole month, which leak the label of the rows."""
    columns = {name: videos[name] for name in videos.column_names if name != "upload_dt"}
    columns |= {name: videos[name].cast(pa.int64()) for name in ("author_id", "music_id")}
    positions = pc.index_in(videos["video_id"].cast(pa.int64()), value_set=statistics["video_id"].cast(pa.int64()))
    for name in statistics.column_names:
        if name != "video_id":
            columns[name] = statistics[name].cast(pa.float32()).take(positions)
    columns["upload_date"] = pc.replace_substring(videos["upload_dt"], "-", "").cast(pa.int32())
    return pa.table(columns)
