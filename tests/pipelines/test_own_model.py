"""The model of docs/examples trains, resumes, is swept and scores rows; its code runs only if the user names it."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from recsys import own_code
from tests.helpers.commands import Run, read_oof
from tests.helpers.own_package import add_package, forget
from tests.helpers.small import small_table

EXAMPLE = Path(__file__).parents[2] / "docs/examples/my_model.py"
MODEL = "my_package.my_file:MyModel"
TINY = ("model.embedding_dim=4", "trainer.learning_rate=0.05")
RANK = ("rank", "--config", "config.yaml", "--data", "raw")


@pytest.fixture
def package(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the example as my_package/my_file.py, in a process that has imported no model."""
    return add_package(project, EXAMPLE, "my_file", monkeypatch)


def test_it_trains_and_scores_rows_where_the_user_names_it(
    package: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = run(*RANK, "--model", MODEL, "--out", "out", *TINY)
    assert trained.code == 0, trained.err
    rows = read_oof(package / "out")
    clicked = np.array([int(row["label"]) for row in rows]) == 1
    p = np.array([float(row["p"]) for row in rows])
    assert p[clicked].mean() > 1.2 * p[~clicked].mean()
    saved = yaml.safe_load((package / "out/config.yaml").read_text())
    assert saved["model"] == {"name": MODEL, "embedding_dim": 4}

    submit = ("submit", "--run", "out", "--test", "raw/train.parquet", "--scale", "natural")
    forget(monkeypatch, "my_file")
    refused = run(*submit, "--out", "refused.csv")
    assert refused.code == 2
    assert f"--model-class {MODEL}" in refused.err
    assert "my_package" not in own_code.importlib.sys.modules
    scored = run(*submit, "--out", "scores.csv", "--model-class", MODEL)
    assert scored.code == 0, scored.err
    assert len(Path("scores.csv").read_text().splitlines()) == len(rows) + 1


def test_the_config_of_its_run_trains_it_again_if_it_is_named(
    package: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(*RANK, "--model", MODEL, "--folds", "0", "--out", "out", *TINY)
    assert first.code == 0, first.err
    forget(monkeypatch, "my_file")
    again = ("rank", "--config", "out/config.yaml", "--out", "again")
    refused = run(*again)
    assert refused.code == 2
    assert "importing it runs its code" in refused.err
    repeated = run(*again, "--model", MODEL)
    assert repeated.code == 0, repeated.err
    assert (package / "again/oof.csv").read_bytes() == (package / "out/oof.csv").read_bytes()


def test_a_section_of_the_config_names_it(package: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    config = yaml.safe_load((package / "config.yaml").read_text())
    config["models"]["mine"] = {"class": MODEL, "model": {"embedding_dim": 2}, "trainer": {"learning_rate": 0.05}}
    (package / "config.yaml").write_text(yaml.safe_dump(config))
    sweep = ("sweep", "--model", "mine", "--config", "config.yaml", "--data", "raw", "--folds", "0", "--out", "sweep")
    swept = run(*sweep, "model.embedding_dim=2,4", "trainer.epochs=1")
    assert swept.code == 0, swept.err
    saved = yaml.safe_load((package / "sweep/embedding_dim=4/config.yaml").read_text())
    assert saved["model"] == {"name": MODEL, "embedding_dim": 4}
    assert saved["trainer"]["learning_rate"] == 0.05

    prepared = run("prepare", "--config", "config.yaml", "--train", "raw/train.parquet", "--out", "prepared/mine")
    assert prepared.code == 0, prepared.err
    forget(monkeypatch, "my_file")
    on_prepared = ("rank", "--data", "prepared/mine", "--folds", "0", "--out", "out", "trainer.epochs=1")
    refused = run(*on_prepared, "--model", "mine")
    assert refused.code == 2
    assert "importing it runs its code" in refused.err
    trained = run(*on_prepared, "--model", MODEL)
    assert trained.code == 0, trained.err
    assert yaml.safe_load((package / "out/config.yaml").read_text())["model"]["embedding_dim"] == 2


@pytest.mark.slow
def test_fits_at_once_import_it_in_their_processes(package: Path, run: Run) -> None:
    at_once = run(*RANK, "--model", MODEL, "--folds", "0,1", "--out", "out", "trainer.parallel_fits=2", *TINY)
    assert at_once.code == 0, at_once.err
    assert len(list((package / "out/ckpt").iterdir())) == 2


def test_a_plan_trains_it_and_submits(package: Path, run: Run) -> None:
    steps = [
        {"step": 1, "do": "prepare"},
        {
            "step": 2,
            "do": "rank",
            "name": "mine",
            "model": MODEL,
            "set": ["trainer.epochs=1"],
            "evaluate_on": ["folds"],
        },
        {"step": 9, "do": "final", "name": "final", "best_of": ["mine"], "evaluate_on": "folds"},
    ]
    plan = {"name": "small", "config": "config.yaml", "reference": "mine", "models": {MODEL: ["model.embedding_dim=3"]}}
    (package / "plan.yaml").write_text(yaml.safe_dump(plan | {"steps": steps}))
    pq.write_table(small_table().drop_columns(["click"]), package / "raw/test.parquet")
    config = yaml.safe_load((package / "config.yaml").read_text())
    config["files"]["test"] = ["test.parquet"]
    (package / "config.yaml").write_text(yaml.safe_dump(config))
    planned = run("plan", "--config", "plan.yaml", "--data", "raw", "--out", "planned")
    assert planned.code == 0, planned.err
    saved = yaml.safe_load((package / "planned/2-mine/config.yaml").read_text())
    assert saved["model"] == {"name": MODEL, "embedding_dim": 3}
    assert len((package / "planned/submission.csv").read_text().splitlines()) == 2001


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("my_package.my_fle:MyModel", "no module 'my_package.my_fle': name a file of the working folder"),
        ("nowhere:MyModel", "no module 'nowhere'"),
        ("my_package.my_file:MyModle", "has no 'MyModle'; did you mean 'MyModel'"),
        ("my_package.my_file:MyConfig", "is not a class of torch.nn.Module"),
        ("torch.nn:Linear", "torch.nn:Linear has no Config: set `Config = MyConfig`"),
        (":MyModel", "no module ''"),
    ],
)
def test_what_is_not_a_model_is_refused(package: Path, run: Run, path: str, message: str) -> None:
    refused = run(*RANK, "--model", path, "--out", "out")
    assert refused.code == 2
    assert message in refused.err


def test_a_module_that_misses_another_says_which(package: Path, run: Run) -> None:
    (package / "my_package/needy.py").write_text("import not_installed_anywhere\n")
    refused = run(*RANK, "--model", "my_package.needy:Model", "--out", "out")
    assert refused.code == 2
    assert "No module named 'not_installed_anywhere': install it" in refused.err


def test_settings_of_the_class_are_checked(package: Path, run: Run) -> None:
    unknown = run(*RANK, "--model", MODEL, "--out", "out", "model.embeding_dim=4")
    assert unknown.code == 2
    assert "model.embeding_dim" in unknown.err
    assert "embedding_dim" in unknown.err
