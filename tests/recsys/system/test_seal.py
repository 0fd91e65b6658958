import hashlib
import json
from pathlib import Path

import pytest

from recsys.errors import InputError
from recsys.system import seal as sealing
from recsys.system.files import begin_folder, finish_folder, is_done
from recsys.system.seal import DONE, seal, verify


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    partial = begin_folder(tmp_path / "run")
    (partial / "ckpt").mkdir()
    (partial / "ckpt" / "weights").write_bytes(bytes(range(256)) * 100)
    (partial / "metrics.json").write_text("{}")
    (partial / "tensorboard").mkdir()
    (partial / "tensorboard" / "events").write_text("x")
    finish_folder(tmp_path / "run")
    return tmp_path / "run"


def test_done_lists_every_file_with_its_checksum(folder: Path) -> None:
    assert is_done(folder)
    assert sorted(path.name for path in folder.iterdir()) == [DONE, "ckpt", "metrics.json", "tensorboard"]
    found = json.loads((folder / DONE).read_text())
    assert found["version"] == 1
    assert set(found["files"]) == {"ckpt/weights", "metrics.json"}  # a viewer may write to tensorboard/
    assert found["files"]["metrics.json"] == {"n_bytes": 2, "sha256": hashlib.sha256(b"{}").hexdigest(), "of": "all"}
    verify(folder)


@pytest.mark.parametrize("place", [0, 7777, 25_599])
def test_a_flipped_bit_is_found(folder: Path, place: int) -> None:
    path = folder / "ckpt" / "weights"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="ckpt/weights is damaged or was changed"):
        verify(folder)
    with pytest.raises(InputError, match="ckpt/weights is damaged or was changed"):
        verify(folder, "ckpt")
    verify(folder, "metrics.json")  # verifies only the named file


def test_missing_and_truncated_files_are_found(folder: Path) -> None:
    (folder / "metrics.json").write_text("{")
    with pytest.raises(InputError, match="metrics.json has 1 bytes, expected 2:"):
        verify(folder)
    (folder / "metrics.json").unlink()
    with pytest.raises(InputError, match="metrics.json is missing"):
        verify(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a list of checksums"),
        ("{", "is not a list of checksums"),
        ("[1]", "is not a list of checksums"),
        ('{"version": 1, "files": {"a": 3}}', "is not a list of checksums"),
        ('{"version": 99, "files": {}}', "has version 99, expected 1:"),
    ],
)
def test_other_versions_are_refused(folder: Path, text: str, message: str) -> None:
    (folder / DONE).write_text(text)
    with pytest.raises(InputError, match=message):
        verify(folder)
    (folder / DONE).unlink()
    with pytest.raises(InputError, match="has no DONE file"):
        verify(folder)


def test_large_files_are_checked_by_samples(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_SAMPLED_FROM", 1000)
    monkeypatch.setattr(sealing, "_SAMPLE_BYTES", 10)
    path = folder / "rows.arrow"
    path.write_bytes(b"\0" * 100_000)
    seal(folder)
    assert json.loads((folder / DONE).read_text())["files"]["rows.arrow"]["of"] == "samples"
    verify(folder)
    for place, is_seen in ((0, True), (99_999, True), (50, False)):
        data = bytearray(100_000)
        data[place] = 1
        path.write_bytes(data)
        if is_seen:
            with pytest.raises(InputError, match="rows.arrow is damaged"):
                verify(folder)
        else:
            verify(folder)
    path.write_bytes(b"\0" * 99_999)
    with pytest.raises(InputError, match="rows.arrow has 99,999 bytes"):
        verify(folder)
