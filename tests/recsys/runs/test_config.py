from pathlib import Path
from typing import Any

import pytest
import yaml

from recsys.errors import InputError
from recsys.runs.config import identity, read_run_config, read_run_section
from recsys.runs.folder import RunFolder
from recsys.runs.layout import CONFIG_FILE
from recsys.system.seal import seal

EARLIER = {
    "data": {"name": "toss", "fingerprint": "abc"},
    "splits": ["fold_0"],
    "scores": "def",
    "model": {"name": "dcnv2"},
    "trainer": {"early_stopping": {"holdout_fraction": 0.1}},
}
"""As version 0.1.0 wrote it."""


def write(folder: Path, values: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(values))
    seal(folder)
    return folder


def test_the_config_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    run = write(tmp_path / "run", EARLIER)
    section = read_run_section(run)
    assert section.data is not None
    assert section.data.fingerprint == "abc"
    assert section.splits == ("fold_0",)
    assert section.score_feature is not None
    assert section.score_feature.fingerprint == "def"
    assert read_run_config(run).model == {"name": "dcnv2"}


def test_a_run_of_an_earlier_version_is_not_continued(tmp_path: Path) -> None:
    run = write(tmp_path / "run", EARLIER)
    with pytest.raises(InputError, match="run holds a run of an earlier version.*choose another --out"):
        RunFolder(run, {"run": {}})


def test_paths_commands_and_versions_are_no_part_of_a_runs_identity() -> None:
    def config(folder: str, files: str, **run: object) -> dict[str, Any]:
        data = {"folder": folder, "fingerprint": "abc"}
        return {"name": "toss", "files": {"folder": files}, "trainer": {"epochs": 1}, "run": {"data": data} | run}

    first = config("prepared/a", "raw/a", reranker="/a/ranker", command="x", versions={"torch": "1"})
    assert identity(first) == identity(config("/b", "raw/b", reranker="/b/ranker", command="y", versions={}))
    assert identity(first) != identity(config("prepared/a", "raw/a", reranker="/a/other"))
    assert identity(first) != identity(first | {"trainer": {"epochs": 2}})
