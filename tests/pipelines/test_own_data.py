"""Own data from a config of columns alone: prepared data knows its config."""

import json
from pathlib import Path

import pytest
import yaml

from pipelines.common.config import load_rank_config
from pipelines.common.data import choose_config
from recsys.config import load_yaml
from tests.helpers.commands import Run
from tests.helpers.own_data import CONFIG, SMALL, write_own_data

PREPARE = ("prepare", "--config", "mine.yaml", "--train", "train.csv")
TREES = ("rank", "--model", "gbdt", "--data", "prepared/mine")


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_own_data(tmp_path)
    return tmp_path


def change(path: str, **sections: object) -> None:
    Path(path).write_text(yaml.safe_dump(yaml.safe_load(Path(path).read_text()) | sections, sort_keys=False))


def test_every_command_reads_the_config_of_prepared_data(own_data: Path, run: Run) -> None:
    Path("base.yaml").write_text(Path("mine.yaml").read_text())
    Path("mine.yaml").write_text("base: base.yaml\n")
    assert run(*PREPARE, "--test", "test.csv").code == 0
    stored = load_yaml(Path("prepared/mine/config.yaml"))
    files = {"folder": str(own_data), "train": [f"{own_data}/train.csv"], "test": [f"{own_data}/test.csv"]}
    assert stored == CONFIG | SMALL | {"files": files}
    Path("mine.yaml").unlink()

    trees = run(*TREES, "--out", "trees")
    assert trees.code == 0, trees.err
    assert yaml.safe_load(Path("trees/config.yaml").read_text())["model"]["n_trees"] == 8
    sweep = run("sweep", *TREES[1:], "--folds", "0", "--out", "sweep", "model.num_leaves=4,8")
    assert sweep.code == 0, sweep.err
    assert len(json.loads(Path("sweep/sweep.json").read_text())["trials"]) == 2
    retrieval = run("retrieval", "--data", "prepared/mine")  # as the config has no towers
    assert retrieval.err.startswith("error: retrieval needs schema.target_item and schema.towers: name")
    sharding = run("rank", "--model", "dcnv2", "--data", "prepared/mine", "--show-sharding")
    assert sharding.code == 0, sharding.err

    submit = ("submit", "--run", "trees", "--out", "s.csv")
    outcome = run(*submit, "--labels", "labels.csv")
    assert outcome.code == 0, outcome.err
    assert "labels.csv has no ids or row numbers: its 60 rows are matched by their order" in outcome.out
    assert json.loads(Path("s.json").read_text())["metrics"]["by the labels"]["n_rows"] == 60


def test_stored_settings_of_training_may_be_edited_but_not_the_schema(own_data: Path, run: Run) -> None:
    assert run(*PREPARE).code == 0
    stored = "prepared/mine/config.yaml"
    change(stored, models={"gbdt": {"model": {"n_trees": 4}, "trainer": {"trees_per_epoch": 4}}})
    assert run(*TREES, "--out", "four").code == 0
    assert yaml.safe_load(Path("four/config.yaml").read_text())["model"]["n_trees"] == 4
    change(stored, schema=CONFIG["schema"] | {"categorical": ["country"]})
    refused = run(*TREES)
    assert "was prepared from config 'mine' with another schema.categorical than" in refused.err


def test_preparing_again_stores_new_settings_of_training(own_data: Path, run: Run) -> None:
    assert run(*PREPARE).code == 0
    rows = Path("prepared/mine/rows.arrow").stat().st_mtime_ns
    change("mine.yaml", trainer={"epochs": 2})
    again = run(*PREPARE)
    assert "already prepared" in again.out
    assert Path("prepared/mine/rows.arrow").stat().st_mtime_ns == rows
    stored = choose_config(None, Path("prepared/mine"), Path("other.yaml"))
    assert load_rank_config(stored, "dcnv2", []).trainer.model_dump()["epochs"] == 2


def test_data_of_versions_that_stored_no_config(own_data: Path, run: Run) -> None:
    assert run(*PREPARE).code == 0
    Path("prepared/mine/config.yaml").unlink()
    refused = run(*TREES)
    assert refused.code == 2
    assert "prepared from config 'mine' with another schema." in refused.err
    assert "than config 'toss' has: pass the --config it was prepared with" in refused.err
    assert run(*TREES, "--config", "mine.yaml", "--out", "trees").code == 0


def test_data_prepared_by_rank_knows_its_config(own_data: Path, run: Run) -> None:
    change("mine.yaml", files={"train": ["train.csv"]})
    first = run("rank", "--model", "gbdt", "--config", "mine.yaml", "--data", ".", "--folds", "0", "--out", "first")
    assert first.code == 0, first.err
    (prepared,) = Path("prepared").iterdir()
    second = run("rank", "--model", "gbdt", "--data", prepared, "--folds", "0", "--out", "second")
    assert second.code == 0, second.err
    assert Path("second/oof.csv").read_bytes() == Path("first/oof.csv").read_bytes()


def test_text_that_looks_like_a_number_is_stored_as_text(own_data: Path, run: Run) -> None:
    text = Path("mine.yaml").read_text()
    Path("mine.yaml").write_text(text.replace("label: clicked", 'label: {column: clicked, values: ["1", "1e0", "on"]}'))
    assert run(*PREPARE).code == 0
    stored = load_yaml(Path("prepared/mine/config.yaml"))["schema"]["label"]
    assert stored == {"column": "clicked", "values": ["1", "1e0", "on"]}


def test_prepare_takes_the_files_of_the_config(own_data: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATECTR_DATA", raising=False)
    assert "names no files: set files.train, prepare them with gatectr prepare --train FILE" in run(*PREPARE[:3]).err
    change("mine.yaml", files={"folder": "logs"})
    Path("elsewhere/logs").mkdir(parents=True)
    assert "no data at data/logs, ../shared/data/logs, logs: correct files.folder, or set" in run(*PREPARE[:3]).err
    monkeypatch.setenv("GATECTR_DATA", "elsewhere")
    assert "names no training files: set files.train, or prepare them with gatectr prepare" in run(*PREPARE[:3]).err
    assert "--valid and --test are given without --train" in run(*PREPARE[:3], "--test", "test.csv").err
    change("mine.yaml", files={"folder": "logs", "train": ["train.csv"], "test": ["test.csv"]})
    for name in ("train.csv", "test.csv"):
        Path(name).rename(f"elsewhere/logs/{name}")
    outcome = run(*PREPARE[:3])
    assert outcome.code == 0, outcome.err
    assert "mine: 460 rows in prepared/mine" in outcome.out
    assert json.loads(Path("prepared/mine/schema.json").read_text())["test_files"] == [
        str(own_data / "elsewhere/logs/test.csv")
    ]


@pytest.mark.parametrize("folder", [None, "."])
def test_files_without_a_folder_are_those_of_the_working_folder(
    own_data: Path, run: Run, folder: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GATECTR_DATA", raising=False)
    absolute = str(Path("test.csv").absolute())
    change("mine.yaml", files={"train": ["train.csv"], "test": [absolute]} | ({"folder": folder} if folder else {}))
    outcome = run(*PREPARE[:3])
    assert outcome.code == 0, outcome.err
    assert json.loads(Path("prepared/mine/schema.json").read_text())["test_files"] == [absolute]
    assert run("rank", "--data", "prepared/mine", "--model", "gbdt", "--folds", "0", "--out", "trees").code == 0


def test_few_distinct_rows_are_trained_on_without_folds(own_data: Path, run: Run) -> None:
    """The command that `prepare` advises runs; what fails does not advise itself."""
    rows = [f"{number % 4},{number % 2}" for number in range(60)]
    Path("few.csv").write_text("\n".join(["a,clicked", *rows]) + "\n")
    Path("few.yaml").write_text("name: few\nschema: {label: clicked, categorical: [a]}\n")
    prepared = run("prepare", "--config", "few.yaml", "--train", "few.csv")
    assert "next: gatectr rank --data prepared/few --model gbdt --folds full, or another model" in prepared.out
    refused = run("rank", "--data", "prepared/few", "--model", "gbdt")
    assert "(its training rows have fewer than 5 distinct ones, of both classes): pass full" in refused.err
    assert run("rank", "--data", "prepared/few", "--model", "gbdt", "--folds", "full", "--out", "few").code == 0


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"trainer": {"epoch": 3}}, "unknown key 'trainer.epoch'; did you mean 'trainer.epochs'"),
        ({"models": {"dcn": {}}}, "models.dcn: unknown model"),
        ({"models": {"gbdt": {"model": {"n_tree": 3}}}}, "unknown key 'model.n_tree'; did you mean 'model.n_trees'"),
        ({"retrieval": {"model": {"dim": 3}}}, "unknown key 'model.dim'"),
        ({"retrieval": {"candidates": 0}}, "candidates: Input should be greater than or equal to 1"),
    ],
)
def test_settings_of_training_are_checked_before_preparation(
    own_data: Path, run: Run, section: dict[str, object], message: str
) -> None:
    change("mine.yaml", **section)
    refused = run(*PREPARE)
    assert refused.code == 2
    assert message in refused.err
    assert not Path("prepared").exists()
