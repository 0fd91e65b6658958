"""Ray Data and one process write identical bytes."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.data.config import PrepareConfig, RawFiles
from recsys.errors import InputError
from recsys.prepare import on_ray
from recsys.prepare.passes import digest_all, plan_work
from recsys.prepare.run import prepare
from recsys.prepare.scan import scan_source
from recsys.raw.opening import open_source
from recsys.system.seal import DONE
from tests.helpers.small import SMALL_SCHEMA, small_schema, small_table

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray cluster of a head and two workers of one core each."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    paths = os.pathsep.join([str(ROOT), *(path for path in sys.path if path)])
    before, os.environ["PYTHONPATH"] = os.environ.get("PYTHONPATH"), paths
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        found.add_node(num_cpus=1)
    ray.init(address=found.address, log_to_driver=False)
    yield
    ray.shutdown()
    found.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


def write_raw(folder: Path) -> RawFiles:
    folder.mkdir()
    pq.write_table(small_table(1500), folder / "a.parquet", row_group_size=130)
    later = small_table(500, seed=5).drop_columns(["id"]).add_column(0, "id", [[f"later-{i}" for i in range(500)]])
    pq.write_table(later, folder / "b.parquet", row_group_size=77)
    pq.write_table(small_table(300, seed=2).drop_columns(["click"]), folder / "test.parquet")
    return RawFiles(train=("a.parquet", "b.parquet"), test=("test.parquet",))


def test_ray_writes_the_same_files(cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_ray, "PIECE_ROWS", 400)
    files, config = write_raw(tmp_path / "raw"), PrepareConfig(min_count=3)
    sequences = SMALL_SCHEMA["sequences"] | {
        "seen": {"kind": "delimited", "max_length": 5, "statistics": True},
        "earlier": {"kind": "log", "key": "color", "item": "shop", "order": "day", "max_length": 4},
    }
    encodings = {"color": ["ctr", "past_ctr"], "shop": ["past_count"]}
    schema = small_schema(sequences=sequences, target_item="shop", encodings=encodings, encodings_past={"order": "day"})
    for engine in ("local", "ray"):
        prepare(schema, files, config, tmp_path / "raw", tmp_path / engine, "small", engine)  # type: ignore[arg-type]
    local, by_ray = (
        {path.name: path.read_bytes() for path in (tmp_path / engine).iterdir()} for engine in ("local", "ray")
    )
    assert set(local) == set(by_ray)
    for name in set(local) - {DONE}:
        assert local[name] == by_ray[name], name


def test_pieces_hold_every_row_once_in_order(tmp_path: Path) -> None:
    files, config = write_raw(tmp_path / "raw"), PrepareConfig(min_count=3)
    source = open_source(small_schema(), files, tmp_path / "raw")
    scan = scan_source(source, config)
    ids = [name for block in source.blocks("train", ["id"]) for name in block.table["id"].to_pylist()]
    for n_rows in (1, 100, 400, 10_000):
        found = plan_work(source, scan, n_rows)
        train = [work for work in found if work.piece.split == "train"]
        names = [
            name
            for work in train
            for block in source.blocks("train", ["id"], work.piece)
            for name in block.table["id"].to_pylist()
        ]
        assert names == ids
        assert np.concatenate([work.hashes for work in found]).tolist() == scan.hashes.tolist()
        assert all(len(work.group) == work.piece.n_rows for work in found)
    assert len(plan_work(source, scan)) == 2  # one piece per split


def test_counts_merge_in_any_order(tmp_path: Path) -> None:
    from recsys.prepare.fit import Counts
    from recsys.prepare.passes import digest_piece

    files, config = write_raw(tmp_path / "raw"), PrepareConfig(min_count=3)
    source = open_source(small_schema(), files, tmp_path / "raw")
    scan = scan_source(source, config)
    expected = digest_all(source, scan, config, tmp_path)
    parts = [
        digest_piece(source, work, scan.groups, config, tmp_path / f"{number}")
        for number, work in enumerate(plan_work(source, scan, 300))
    ]
    merged = Counts(source.schema, scan.groups, config)
    for part in reversed(parts):
        merged.merge(part)
    found = merged.finish()
    assert found.lengths == expected.lengths
    assert np.array_equal(found.sample.values, expected.sample.values, equal_nan=True)
    for name, vocabulary in expected.vocabularies.items():
        assert found.vocabularies[name].values.equals(vocabulary.values)
        assert np.array_equal(found.vocabularies[name].counts, vocabulary.counts)


def test_error_without_ray_names_the_package_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    files = write_raw(tmp_path / "raw")
    with pytest.raises(InputError, match="--engine ray needs Ray, which is not installed: pip install -e"):
        prepare(small_schema(), files, PrepareConfig(min_count=3), tmp_path / "raw", tmp_path / "out", "small", "ray")
    assert not (tmp_path / "out").exists()
