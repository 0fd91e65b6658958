"""Criteo and Avazu: raw text written by hand, and the public samples written back as raw text."""

import datetime
import gzip
import re
import tarfile
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.common.config import load_data_config
from pipelines.public_data.criteo import FEATURES
from recsys.data.dataset import PreparedDataset
from recsys.prepare.run import prepare
from tests.helpers.commands import Run
from tests.helpers.public_data import Convert, assert_equal, rows_of, text_rows, write

CRITEO_TRAIN = (
    "0\t1\t-1\t\t" + "\t".join(["7"] * 10) + "\t68fd1e64\t" + "\t".join(["abc"] * 24) + "\t\n"
    "1\t\t2\t3\t" + "\t".join(["8"] * 10) + '\t\t"x\t' + "\t".join(["d e"] * 24) + "\n"
)
CRITEO_TEST = "\t".join([""] * 13 + ["0a1b2c3d"] * 26) + "\n"


def test_criteo_is_text_without_header(tmp_path: Path, converted: Convert) -> None:
    source = write(tmp_path / "dac", {"train.txt": CRITEO_TRAIN, "test.txt": CRITEO_TEST, "readme.txt": "-"})
    folder = converted("criteo", source)
    assert rows_of(folder / "criteo.parquet") == [
        (0, 1, -1, None, *[7] * 10, "68fd1e64", *["abc"] * 24, None),
        (1, None, 2, 3, *[8] * 10, None, '"x', *["d e"] * 24),
    ]
    assert rows_of(folder / "criteo_test.parquet") == [(*[None] * 13, *["0a1b2c3d"] * 26)]
    assert pq.read_schema(folder / "criteo_test.parquet").names == list(FEATURES)


@pytest.mark.parametrize("kind", ["dac.tar.gz", "dac.zip", "train.txt", "train.txt.gz"])
def test_a_download_is_an_archive_or_a_file(tmp_path: Path, converted: Convert, kind: str) -> None:
    train = write(tmp_path, {"train.txt": CRITEO_TRAIN}) / "train.txt"
    if kind == "dac.tar.gz":
        with tarfile.open(tmp_path / kind, "w:gz") as tar:
            tar.add(train, "dac/train.txt")
    elif kind == "dac.zip":
        with zipfile.ZipFile(tmp_path / kind, "w") as archive:
            archive.write(train, "train.txt")
    elif kind == "train.txt.gz":
        (tmp_path / kind).write_bytes(gzip.compress(train.read_bytes()))
    folder = converted("criteo", tmp_path / kind)
    assert [path.name for path in sorted(folder.iterdir())] == ["DONE", "criteo.parquet"]
    assert len(rows_of(folder / "criteo.parquet")) == 2


AVAZU_COLUMNS = (
    "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,app_category,device_id,device_ip,"
    "device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21"
)
AVAZU_VALUES = (
    *(1005, 0, "1fbe01fe", "f3845767", "28905ebd", "ecad2386", "7801e8d9", "07d7df22", "a99f214a", "ddd2926e"),
    *("44956a24", 1, 2, 15706, 320, 50, 1722, 0, 35, -1, 79),
)
AVAZU_ROW = ",".join(map(str, AVAZU_VALUES))


def test_the_hour_of_avazu_is_a_day_a_weekday_and_an_hour(tmp_path: Path, converted: Convert) -> None:
    train = f"{AVAZU_COLUMNS}\n10000169349117863715,1,14102100,{AVAZU_ROW}\n5,0,14103023,{AVAZU_ROW}\n"
    test = f"{AVAZU_COLUMNS.replace('click,', '')}\n6,14103105,{AVAZU_ROW}\n"
    with zipfile.ZipFile(tmp_path / "avazu-ctr-prediction.zip", "w") as archive:
        archive.writestr("train.gz", gzip.compress(train.encode()))
        archive.writestr("test.gz", gzip.compress(test.encode()))
    folder = converted("avazu", tmp_path / "avazu-ctr-prediction.zip")
    tuesday, thursday = datetime.date(2014, 10, 21), datetime.date(2014, 10, 30)
    assert rows_of(folder / "avazu.parquet") == [
        (10000169349117863715, 1, tuesday, 1, 0, *AVAZU_VALUES),
        (5, 0, thursday, 3, 23, *AVAZU_VALUES),
    ]
    assert rows_of(folder / "avazu_test.parquet") == [(6, datetime.date(2014, 10, 31), 4, 5, *AVAZU_VALUES)]


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("criteo", {"test.txt": CRITEO_TEST}, r"has no file train.txt or criteo.parquet .it has test.txt.: pass the"),
        (
            "criteo",
            {"train.txt": CRITEO_TEST},
            r"train.txt is not the file .* label, I1, .*Expected 40 columns, got 39",
        ),
        ("criteo", {"train.txt": "label" + CRITEO_TRAIN[1:]}, "train.txt is not the file .*invalid value 'label'"),
        ("criteo", {"train.txt": ""}, "train.txt is not the file that was expected.*Empty CSV file"),
        ("criteo", {"a/train.txt": "", "b/train.txt": ""}, r"several files train.txt .a/train.txt, b/train.txt.: pass"),
        ("avazu", {"train.csv": "id,click\n1,0\n"}, "train.csv is not the file that was expected.*hour"),
        ("avazu", {"train.csv": AVAZU_COLUMNS + "\n"}, "train.csv has no rows"),
        (
            "avazu",
            {"train.csv": f"{AVAZU_COLUMNS}\n5,0,2014-10-21,{AVAZU_ROW}\n"},
            "train.csv: column 'hour' contains '2014-10-21', expected YYMMDDHH",
        ),
        ("avazu", {"train.csv": f"{AVAZU_COLUMNS}\n5,0,14139900,{AVAZU_ROW}\n"}, "'hour' contains '14139900'"),
        ("aviz", {}, "unknown data set 'aviz'; did you mean 'avazu'"),
    ],
)
def test_a_wrong_download_is_refused(tmp_path: Path, run: Run, name: str, files: dict[str, str], message: str) -> None:
    source = write(tmp_path / "source", files)
    source.mkdir(exist_ok=True)
    outcome = run("convert", name, "--source", source, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert re.search(message, outcome.err), outcome.err
    assert outcome.err.count("\n") == 1
    assert not list(tmp_path.glob("out*"))


def test_a_damaged_or_missing_download_is_refused(tmp_path: Path, run: Run) -> None:
    text = f"{AVAZU_COLUMNS}\n" + f"5,0,14102100,{AVAZU_ROW}\n" * 2000
    (tmp_path / "train.gz").write_bytes(gzip.compress(text.encode())[:-100])
    (tmp_path / "avazu.zip").write_bytes(b"PK\x03\x04")
    for file, message in (
        ("train.gz", "train.gz is damaged"),
        ("avazu.zip", "avazu.zip is damaged"),
        ("no", "no does"),
    ):
        outcome = run("convert", "avazu", "--source", tmp_path / file, "--out", tmp_path / "out")
        assert outcome.code == 2
        assert message in outcome.err
        assert not list(tmp_path.glob("out*"))


def test_a_finished_folder_is_not_overwritten(tmp_path: Path, run: Run, converted: Convert) -> None:
    source = write(tmp_path / "dac", {"train.txt": CRITEO_TRAIN})
    converted("criteo", source)
    outcome = run("convert", "criteo", "--source", source, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "exists and is not this converted data set" in outcome.err


def prepared(name: str, folder: Path, out: Path) -> PreparedDataset:
    config = load_data_config(Path(__file__).parents[3] / "configs" / f"{name}.yaml", [])
    prepare(config.schema_, config.files, config.prepare, folder, out, name)
    return PreparedDataset.open(out)


def test_the_criteo_sample_from_its_text(public_data: Path, tmp_path: Path, converted: Convert) -> None:
    sample = pq.read_table(public_data / "criteo_sample" / "criteo.parquet").slice(0, 600)
    source = write(tmp_path / "dac", {"train.txt": text_rows(sample, "\t")})
    folder = converted("criteo", source)
    assert_equal(folder / "criteo.parquet", sample)
    schema = prepared("criteo", folder, tmp_path / "prepared").manifest.schema_
    assert (len(schema.categorical), len(schema.numeric)) == (26, 13)
    assert prepared("criteo", public_data / "criteo_sample", tmp_path / "sample").n_rows == 7200


def test_the_avazu_sample_from_its_text(public_data: Path, tmp_path: Path, converted: Convert) -> None:
    sample = pq.read_table(public_data / "avazu_sample" / "avazu.parquet").slice(0, 600)
    source = write(tmp_path / "avazu", {"train": text_rows(sample, ",", header=True)})
    folder = converted("avazu", source)
    assert_equal(folder / "avazu.parquet", sample.drop_columns(["hour"]))
    assert set(rows_of(folder / "avazu.parquet", ["day", "weekday", "hour_of_day"])) == {
        (datetime.date(2014, 10, 21), 1, 0)
    }
    schema = prepared("avazu", folder, tmp_path / "prepared").manifest.schema_
    assert set(schema.categorical) == set(sample.column_names) - {"id", "click", "hour"} | {"weekday", "hour_of_day"}


@pytest.mark.parametrize("name", ["criteo", "avazu"])
def test_a_sample_in_parquet_is_read_as_its_text(public_data: Path, converted: Convert, name: str) -> None:
    sample = pq.read_table(public_data / f"{name}_sample" / f"{name}.parquet")
    folder = converted(name, public_data / f"{name}_sample")
    kept = [column for column in sample.column_names if column != "hour"]
    assert_equal(folder / f"{name}.parquet", sample.select(kept))
