"""KuaiRand-Pure: a log written by hand, and the public parquet files written back as raw text."""

import re
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipelines.common.config import load_data_config
from pipelines.public_data.kuairand import MAX_HISTORY
from recsys.data.dataset import PreparedDataset
from recsys.prepare.run import prepare
from tests.helpers.commands import Run
from tests.helpers.public_data import Convert, assert_equal, rows_of, text_rows, write

LOG_HEADER = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,play_time_ms,"
    "duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
LOG = LOG_HEADER.split(",")
USERS = (
    "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,"
    "follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,register_days,"
    "register_days_range," + ",".join(f"onehot_feat{k}" for k in range(18))
)
VIDEOS = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,"
    "music_id,music_type,tag"
)
NAMES = {
    "early": "log_standard_4_08_to_4_21_pure.csv",
    "late": "log_standard_4_22_to_5_08_pure.csv",
    "users": "user_features_pure.csv",
    "videos": "video_features_basic_pure.csv",
    "statistics": "video_features_statistic_pure.csv",
}


def log_of(*rows: dict[str, int]) -> str:
    lines = [",".join(str(row.get(name, 0)) for name in LOG) for row in rows]
    return "\n".join([",".join(LOG), *lines]) + "\n"


def shown(user: int, video: int, date: int, time: int, **feedback: int) -> dict[str, int]:
    return {"user_id": user, "video_id": video, "date": date, "time_ms": time, "hourmin": 900, "tab": 1} | feedback


EARLY = log_of(
    shown(7, 30, 20220409, 20, is_click=1, long_view=1),
    shown(7, 20, 20220408, 10, is_like=1),
    shown(3, 40, 20220421, 50),
    *(shown(8, video, 20220410, 100 + video, long_view=video % 2) for video in range(60)),
)
LATE = log_of(
    shown(7, 31, 20220424, 900, is_like=1),
    shown(7, 32, 20220425, 1000, is_click=1, play_time_ms=70_000),
    shown(3, 40, 20220503, 3000),
    shown(3, 41, 20220504, 4000, is_click=1),
    shown(9, 42, 20220505, 5000),
    shown(9, 43, 20220506, 6000),
    shown(9, 44, 20220425, 999),
)
FILES = {
    NAMES["early"]: EARLY,
    NAMES["late"]: LATE,
    NAMES["users"]: f'{USERS}\n7,full_active,0,-124,1,514,500+,150,"[100,1k)",34,"[30,60)",799,730+,'
    "1,1,29,949,,0,0,14,135,6,3,0,0.0,1.0,0.0,0.0,0.0,0.0\n",
    NAMES["videos"]: f'{VIDEOS}\n41,5,NORMAL,2022-04-10,ShortImport,0.0,17200.0,720,1280,9170219122.0,4.0,"12,65"\n'
    "40,8839734,AD,,Web,0.0,,720,1280,3,,\n",
    NAMES["statistics"]: "video_id,counts,show_cnt\n40,102,2579.5\n41,66,75.25\n",
}


def test_histories_are_of_the_days_before(tmp_path: Path, converted: Convert) -> None:
    source = write(tmp_path / "KuaiRand-Pure" / "data", FILES)
    with tarfile.open(tmp_path / "KuaiRand-Pure.tar.gz", "w:gz") as tar:
        tar.add(source.parent, "KuaiRand-Pure")
    folder = converted("kuairand", tmp_path / "KuaiRand-Pure.tar.gz")
    columns = ["user_id", "video_id", "date", "time_ms", "is_click", "play_time_ms", "tab", "split"]
    assert rows_of(folder / "interactions.parquet", columns) == [
        (9, 44, 20220425, 999, 0, 0, 1, "train"),
        (7, 32, 20220425, 1000, 1, 70_000, 1, "train"),
        (3, 40, 20220503, 3000, 0, 0, 1, "train"),
        (3, 41, 20220504, 4000, 1, 0, 1, "valid"),
        (9, 42, 20220505, 5000, 0, 0, 1, "valid"),
        (9, 43, 20220506, 6000, 0, 0, 1, "test"),
    ]
    odd = [video for video in range(60) if video % 2]
    assert rows_of(folder / "user_history.parquet") == [
        (3, 1, 50, [40], [], []),
        (7, 3, 900, [20, 30, 31], [20, 31], [30]),
        (8, 60, 159, list(range(60))[-MAX_HISTORY:], [], odd),
    ]


def test_features_of_users_and_videos(tmp_path: Path, converted: Convert) -> None:
    folder = converted("kuairand", write(tmp_path / "data", FILES))
    user = pq.read_table(folder / "users.parquet").to_pylist()[0]
    assert user["fans_user_num_range"] == "[100,1k)"
    assert (user["is_live_streamer"], user["onehot_feat3"], user["onehot_feat4"]) == (-124, 949, None)
    columns = ["video_id", "author_id", "music_id", "music_type", "video_duration", "tag", "upload_date", "show_cnt"]
    assert rows_of(folder / "items.parquet", columns) == [
        (41, 5, 9170219122, 4.0, 17200.0, "12,65", 20220410, 75.25),
        (40, 8839734, 3, None, None, None, None, 2579.5),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({NAMES["late"]: log_of(shown(1, 2, 20220424, 3))}, "4_22_to_5_08_pure.csv has no rows from 20220425 on"),
        ({NAMES["early"]: None}, "has no file log_standard_4_08_to_4_21_pure.csv"),
        ({NAMES["users"]: LATE}, "user_features_pure.csv is not the file that was expected.*user_active_degree"),
    ],
)
def test_a_wrong_download_is_refused(tmp_path: Path, run: Run, change: dict[str, Any], message: str) -> None:
    files = {name: text for name, text in (FILES | change).items() if text is not None}
    outcome = run("convert", "kuairand", "--source", write(tmp_path / "data", files), "--out", tmp_path / "out")
    assert outcome.code == 2
    assert re.search(message, outcome.err), outcome.err
    assert not list(tmp_path.glob("out*"))


def quoted(table: pa.Table) -> pa.Table:
    for index, name in enumerate(table.column_names):
        if pa.types.is_large_string(table[name].type):
            table = table.set_column(
                index, name, pc.binary_join_element_wise('"', table[name].cast(pa.string()), '"', "")
            )
    return table


def test_the_sample_from_its_text(public_data: Path, tmp_path: Path, converted: Convert) -> None:
    data = public_data / "kuairand_pure_sample"
    rows, users, items = (pq.read_table(data / f"{name}.parquet") for name in ("interactions", "users", "items"))
    ends = [rows.filter(pc.equal(rows["split"], split)).slice(0, 300) for split in ("train", "valid", "test")]
    rows = pa.concat_tables(ends)
    users, items = users.slice(0, 500), items.slice(0, 500)
    history = pq.read_table(data / "user_history.parquet")
    whole = history.filter(pc.less_equal(history["history_len"], MAX_HISTORY)).slice(0, 100)
    earlier = [
        shown(user["user_id"], video, 20220424, user["last_time_ms"] - user["history_len"] + step + 1)
        for user in whole.to_pylist()
        for step, video in enumerate(user["watch_seq"])
    ]
    statistics = items.select([n for n in items.column_names if n.endswith(("_cnt", "_num", "progress", "counts"))])
    date = pc.replace_substring_regex(items["upload_date"].cast(pa.string()), r"(....)(..)(..)", r"\1-\2-\3")
    videos = items.append_column("upload_dt", date).select(VIDEOS.split(","))
    files = {
        NAMES["early"]: log_of(*earlier),
        NAMES["late"]: text_rows(rows.select(LOG), ",", header=True),
        NAMES["users"]: text_rows(quoted(users), ",", header=True),
        NAMES["videos"]: text_rows(quoted(videos), ",", header=True),
        NAMES["statistics"]: text_rows(statistics.append_column("video_id", items["video_id"]), ",", header=True),
    }
    folder = converted("kuairand", write(tmp_path / "data", files))
    assert_equal(folder / "interactions.parquet", rows.drop_columns(["origin_split"]))
    assert_equal(folder / "users.parquet", users)
    assert_equal(folder / "items.parquet", items.select([*statistics.column_names, "upload_date", "tag", "music_id"]))
    assert_equal(folder / "user_history.parquet", whole.select(["user_id", "history_len", "last_time_ms", "watch_seq"]))
    config = load_data_config(Path(__file__).parents[3] / "configs" / "kuairand.yaml", [])
    prepare(config.schema_, config.files, config.prepare, folder, tmp_path / "prepared", "kuairand")
    dataset = PreparedDataset.open(tmp_path / "prepared")
    assert {name: len(dataset.partition_rows(name)) for name in ("train", "valid", "test")} == dict.fromkeys(
        ("train", "valid", "test"), 300
    )
