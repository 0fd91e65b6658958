"""A refused command leaves no folder and no file behind."""

from pathlib import Path

import pytest
import yaml

from tests.helpers.commands import Run
from tests.helpers.own_data import CONFIG, SMALL, write_own_data

TREES = ("rank", "--model", "gbdt", "--data", "prepared/mine")
UNKNOWN_FEATURE = "features.leave_out=[contry]"
"""Refused when a split is opened, after the run folder was created."""
PLAN = {
    "name": "trees",
    "config": "mine.yaml",
    "reference": "gbdt",
    "steps": [{"step": 1, "do": "prepare"}, {"step": 2, "do": "rank", "name": "gbdt", "model": "gbdt"}],
}


@pytest.fixture(scope="module")
def own_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of own data, which the tests of this module share."""
    folder = tmp_path_factory.mktemp("own")
    write_own_data(folder)
    text = (folder / "train.csv").read_bytes()
    (folder / "bytes.csv").write_bytes(text[:-1] + "\n0,ü,a,b\n".encode("latin-1"))
    (folder / "narrow.csv").write_text("country,device\na,b\n")
    (folder / "sample.csv").write_text("row_id,clicked\n" + "".join(f"{row},0\n" for row in [*range(59), 999]))
    (folder / "typo.yaml").write_text(yaml.safe_dump(CONFIG | SMALL | {"batch_size": 3}))
    (folder / "plan.yaml").write_text(yaml.safe_dump(PLAN | {"set": [UNKNOWN_FEATURE]}))
    (folder / "other.yaml").write_text(yaml.safe_dump(PLAN | {"reference": "tree"}))
    return folder


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_refused_commands_leave_nothing(own_data: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own_data)
    prepare = ("prepare", "--config", "mine.yaml")
    assert run(*prepare, "--train", "train.csv", "--test", "test.csv").code == 0
    for name, trees in (("a", 4), ("b", 8)):
        assert run(*TREES, "--folds", "0", "--out", name, f"model.n_trees={trees}").code == 0
    before = listing(own_data)
    submit = ("submit", "--run", "a")
    cases: list[tuple[tuple[str, ...], str]] = [
        ((*prepare, "--train", "narrow.csv", "--out", "new/p"), "schema.label"),
        ((*prepare, "--train", "bytes.csv", "--out", "new/p"), "not UTF-8"),
        (("prepare", "--config", "typo.yaml", "--train", "train.csv", "--out", "new/p"), "'trainer.batch_size'"),
        (("rank", "--model", "din", "--data", "prepared/mine"), "din needs schema.sequences"),
        ((*TREES, "--folds", "9", "--out", "new/r"), "has no fold_9"),
        ((*TREES, UNKNOWN_FEATURE, "--out", "new/r"), "'contry' is not a column"),
        ((*TREES, UNKNOWN_FEATURE), "'contry' is not a column"),
        (("retrieval", "--data", "prepared/mine", "--split", "fold_0", "--out", "new/r"), "retrieval needs"),
        (("sweep", *TREES[1:], "--out", "new/s", "model.num_leaves=4,8", UNKNOWN_FEATURE), "'contry' is not a column"),
        (("sweep", "--model", "din", "--data", "prepared/mine", "model.dropout=0,.1"), "din needs schema.sequences"),
        (("ensemble", "a", "b", "--method", "weights", "--out", "new/e"), "--method weights is fitted on other folds"),
        (("ensemble", "a", "gone", "--out", "new/e"), "gone"),
        (("compare", "a", "gone", "--out", "new/c.json"), "gone"),
        ((*submit, "--test", "narrow.csv", "--out", "new/s.csv"), "has no column 'ad'"),
        ((*submit, "--sample", "sample.csv", "--out", "new/s.csv"), "id 999 is not among the rows"),
        ((*submit, "--labels", "train.csv", "--out", "new/s.csv"), "has 400 rows, expected 60"),
        (("plan", "--config", "other.yaml", "--data", "prepared/mine", "--out", "new/plan"), "no step has the name"),
        (("plan", "--config", "plan.yaml", "--data", "prepared/mine", "--out", "new/plan"), "'contry' is not a column"),
    ]
    for command, message in cases:
        outcome = run(*command)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), (command, outcome)
        assert message in outcome.err, (command, outcome.err)
        assert listing(own_data) == before, command


def test_a_refused_command_keeps_what_others_wrote(
    own_data: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that existed, even if it is empty, and the unfinished run of a killed process."""
    monkeypatch.chdir(own_data)
    assert run("prepare", "--config", "mine.yaml", "--train", "train.csv", "--out", tmp_path / "p").code == 0
    (tmp_path / "new").mkdir()
    refused = run(*TREES[:4], tmp_path / "p", UNKNOWN_FEATURE, "--out", tmp_path / "new/r")
    assert refused.code == 2
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "new/r.partial").mkdir()
    (tmp_path / "new/r.partial/notes").touch()
    assert run(*TREES[:4], tmp_path / "p", UNKNOWN_FEATURE, "--out", tmp_path / "new/r").code == 2
    assert (tmp_path / "new/r.partial/notes").is_file()
