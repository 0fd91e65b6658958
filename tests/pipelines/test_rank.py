import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.metrics import average_precision_score, roc_auc_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import pipelines.rank
from recsys.runs.folder import RunFolder
from recsys.training.checkpoint import tensor_names
from recsys.training.trainer import Trainer
from tests.helpers.commands import Run, read_oof

RANK = ("rank", "--model", "dcnv2", "--config", "config.yaml", "--data", "raw")
FIGURES = {"ap", "ne", "wll", "roc_auc", "pr_auc", "logloss", "ece", "toss_score", "n_rows", "n_positive"}


def test_out_of_fold_run_folder(project: Path, run: Run) -> None:
    outcome = run(*RANK, "--out", "out")
    assert outcome.code == 0, outcome.err
    assert "overall" in outcome.out
    assert "run folder: out" in outcome.out

    folder, raw = project / "out", pq.read_table(project / "raw/train.parquet")
    found = {path.name for path in folder.iterdir()}
    whole = {"config.yaml", "metrics.json", "ckpt", "tensorboard", "oof.csv", "preds_stats.json", "DONE"}
    assert found == whole | {"calibration.json", "reliability.png"}
    assert not (project / "out.partial").exists()

    rows = read_oof(folder)
    label = dict(zip(raw["id"].to_pylist(), raw["click"].to_pylist(), strict=True))
    assert {row["row_id"]: int(row["label"]) for row in rows} == label  # each row once, joined by id
    assert {row["fold"] for row in rows} == {"0", "1", "2"}
    logit, p = (np.array([float(row[key]) for row in rows]) for key in ("logit", "p"))
    y = np.array([int(row["label"]) for row in rows])

    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics["overall"]) == FIGURES
    assert set(metrics["folds"]) == {"0", "1", "2"}
    assert set(metrics["segments"]["user"]) == {"new", "returning"}
    assert metrics["overall"]["n_rows"] == raw.num_rows
    assert {"rows_per_s", "seconds", "peak_rss_gib", "precision"} <= set(metrics["train"])
    # metrics computed from oof.csv agree
    assert metrics["overall"]["ap"] == pytest.approx(average_precision_score(y, p), abs=1e-6)
    assert metrics["overall"]["roc_auc"] == pytest.approx(roc_auc_score(y, p), abs=1e-6)
    assert metrics["overall"]["logloss"] == pytest.approx(-np.mean(np.log(np.where(y == 1, p, 1 - p))), abs=1e-6)
    fold_0 = np.array([row["fold"] == "0" for row in rows])
    assert metrics["folds"]["0"]["roc_auc"] == pytest.approx(roc_auc_score(y[fold_0], logit[fold_0]), abs=1e-6)
    assert metrics["overall"]["roc_auc"] > 0.72

    stats = json.loads((folder / "preds_stats.json").read_text())
    assert stats["0"]["p"]["mean"] == pytest.approx(p[fold_0].mean(), abs=1e-6)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["embedding_dim"] == 4
    assert config["trainer"]["epochs"] == 3
    log = EventAccumulator(str(folder / "tensorboard" / "fold_0")).Reload()
    tags = set(log.Tags()["scalars"])
    assert {"train/loss", "train/learning_rate/dense", "train/gradient_norm", "monitor/ap"} <= tags
    assert {f"embedding_norm/embeddings/{table}" for table in ("color", "shop", "seen")} <= tags
    assert "monitor/pr" in log.Tags()["tensors"]


def test_precedence_of_overrides_model_section_and_trainer_section(project: Path, run: Run) -> None:
    outcome = run(*RANK, "--folds", "0", "--out", "out", "model.embedding_dim=3", "trainer.batch_size=200")
    assert outcome.code == 0
    config = yaml.safe_load((project / "out/config.yaml").read_text())
    assert config["model"]["embedding_dim"] == 3
    assert config["model"]["hidden_dims"] == [16]
    assert (config["trainer"]["batch_size"], config["trainer"]["learning_rate"]) == (200, 0.01)
    assert {row["fold"] for row in read_oof(project / "out")} == {"0"}


def test_holdout_is_the_last_day(project: Path, run: Run) -> None:
    assert run(*RANK, "--folds", "holdout", "--out", "out").code == 0
    raw = pq.read_table(project / "raw/train.parquet")
    days = dict(zip(raw["id"].to_pylist(), raw["day"].to_pylist(), strict=True))
    last = {row for row, day in days.items() if str(day) == "7"}
    assert {row["row_id"] for row in read_oof(project / "out")} == last


def test_run_killed_between_folds_resumes_to_the_same_result(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(*RANK, "--out", "whole").code == 0
    fit, begun = pipelines.rank.fit_split, []

    def dies_at_the_second(folder: RunFolder, settings: object, split: object, *rest: object) -> None:
        begun.append(split)
        if len(begun) == 2:
            raise KeyboardInterrupt
        fit(folder, settings, split, *rest)

    monkeypatch.setattr(pipelines.rank, "fit_split", dies_at_the_second)
    assert run(*RANK, "--out", "killed").code == 130
    assert not (project / "killed").exists()
    monkeypatch.setattr(pipelines.rank, "fit_split", fit)
    outcome = run(*RANK, "--out", "killed")
    assert outcome.code == 0
    assert "fold_0  is already trained" in outcome.out
    assert (project / "killed/oof.csv").read_bytes() == (project / "whole/oof.csv").read_bytes()


def test_finished_run_has_no_resume_checkpoints(project: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(trainer: Trainer) -> None:
        raise KeyboardInterrupt

    often = "trainer.checkpoint_every_s=1e-9"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "clean_up", killed)
        assert run(*RANK, "--folds", "0", "--out", "out", often).code == 130
    assert len(list((project / "out.partial/ckpt").iterdir())) == 3
    assert run(*RANK, "--folds", "0", "--out", "out", often).code == 0
    assert [path.name for path in (project / "out/ckpt").iterdir()] == ["fold_0"]


def test_finished_run_is_printed_and_not_rewritten(project: Path, run: Run) -> None:
    assert run(*RANK, "--folds", "0", "--out", "out").code == 0
    before = (project / "out/metrics.json").stat().st_mtime_ns
    outcome = run(*RANK, "--folds", "0", "--out", "out")
    assert outcome.code == 0
    assert "fold 0" in outcome.out
    assert (project / "out/metrics.json").stat().st_mtime_ns == before
    other = run(*RANK, "--folds", "0", "--out", "out", "trainer.epochs=1")
    assert other.code == 2
    assert "out holds a finished run of another config: choose another --out" in other.err


def test_raw_data_is_prepared_once(project: Path, run: Run) -> None:
    first = run(*RANK, "--folds", "0", "--out", "a")
    second = run(*RANK, "--folds", "0", "--out", "b")
    assert "preparing raw once, into prepared/small-" in first.out
    assert "preparing" not in second.out
    assert (project / "a/oof.csv").read_bytes() == (project / "b/oof.csv").read_bytes()


def test_prepared_data_of_another_schema_is_refused(project: Path, run: Run) -> None:
    train = ("--train", "raw/train.parquet", "--out", "prepared/mine")
    assert run("prepare", "--config", "config.yaml", *train).code == 0
    here = ("rank", "--model", "dcnv2", "--config", "config.yaml", "--data", "prepared/mine", "--folds", "0")
    assert run(*here, "--out", "a").code == 0
    other = run(*here, "--out", "b", "schema.categorical=[color]")
    assert other.code == 2
    assert "prepared/mine was prepared from config 'small' with another schema.categorical" in other.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("model.embeding_dim=3",), "unknown key 'model.embeding_dim'; did you mean 'model.embedding_dim'?"),
        (("trainer.epochs=none",), "trainer.epochs"),
        (("trainer.epochs",), "override 'trainer.epochs' must be KEY=VALUE"),
        (("--folds", "9"), "--folds 9: prepared/small-"),
        (("--folds", "first"), "has no fold_first; it has full, fold_0"),
        (("schema.label=clik",), "has no column 'clik'; did you mean 'click'?"),
        (("prepare.n_fold=3",), "unknown key 'prepare.n_fold'; did you mean 'prepare.n_folds'?"),
        (("models.dcnv2.model.embedding_dim=3",), "'models' is a section of a file, not of a ranking run: pass model."),
        (("model.hidden_dims=[16,0]",), "model.hidden_dims.1: Input should be greater than or equal to 1, got 0"),
        (("trainer.learning_rate=.inf",), "trainer.learning_rate: Input should be a finite number"),
        (("trainer.loss.pos_weight=1e300",), "trainer.loss.pos_weight: Input should be less than or equal to"),
        (("--folds", "٣"), "--folds ٣: prepared/small-"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    project: Path, run: Run, arguments: tuple[str, ...], message: str
) -> None:
    outcome = run(*RANK, *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (project / "runs").exists()


def test_missing_data_folder(project: Path, run: Run) -> None:
    outcome = run("rank", "--model", "dcnv2", "--config", "config.yaml", "--data", "nowhere")
    assert (outcome.code, outcome.err.startswith("error: --data nowhere is not a folder")) == (2, True)
    assert "did you mean 'raw'?" in run("rank", "--config", "config.yaml", "--model", "gbdt", "--data", "rwa").err
    outcome = run("rank", "--config", "config.yaml", "--data", "raw", "--model", "lightgbm")
    assert "choose 'gbdt' and model.library=lightgbm" in outcome.err
    outcome = run("rank", "--model", "dcnv2", "--config", "config.yaml")
    assert outcome.code == 2
    assert "the working folder has no train.parquet: set files.folder, or pass --data FOLDER" in outcome.err


def test_unknown_model_lists_the_known_models(project: Path, run: Run) -> None:
    outcome = run("rank", "--model", "dcn")
    assert outcome.code == 2
    assert "'dcnv2'" in outcome.err


def test_help(run: Run) -> None:
    outcome = run("rank", "--help")
    assert outcome.code == 0
    for word in ("--model", "--config", "--data", "--out", "--folds", "KEY=VALUE", "holdout"):
        assert word in outcome.out


def test_checkpoints_contain_only_weights(project: Path, run: Run) -> None:
    assert run(*RANK, "--folds", "0", "--out", "out").code == 0
    assert [path.name for path in (project / "out/ckpt").iterdir()] == ["fold_0"]
    names = tensor_names(project / "out/ckpt/fold_0")
    assert {"cross.layers.0.weight", "embeddings.collection.embedding_bags.color.weight"} <= names


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frappe", "kuairand"])
def test_public_data(public_data: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    config = Path("configs", f"{name}.yaml").absolute()
    monkeypatch.chdir(tmp_path)
    outcome = run("rank", "--model", "dcnv2", "--config", config, "--out", "out")
    assert outcome.code == 0, outcome.err
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert set(metrics["splits"]) == {"valid", "test"}
    assert metrics["overall"] == metrics["splits"]["test"]
    assert metrics["overall"]["roc_auc"] > {"frappe": 0.978, "kuairand": 0.7}[name]


def test_gbdt_run(run: Run, project: Path) -> None:
    arguments = ("--model", "gbdt", "--config", "config.yaml", "--data", "raw", "--folds", "all", "--out", "runs/trees")
    found = run("rank", *arguments, "model.n_trees=60", "model.min_data_in_leaf=20")
    assert found.code == 0, found.err
    metrics = json.loads(Path("runs/trees/metrics.json").read_text())
    assert metrics["overall"]["n_rows"] == 2000
    assert metrics["overall"]["roc_auc"] > 0.7
    assert Path("runs/trees/ckpt/fold_0/model.txt").is_file()
    assert run("rank", *arguments, "trainer.batch_size=7").err.count("trainer.batch_size") == 1


def test_training_on_all_rows_reports_no_metrics(project: Path, run: Run) -> None:
    for model in ("dcnv2", "gbdt"):
        settings = ["trainer.early_stopping=null"]
        outcome = run(*RANK[:1], "--model", model, *RANK[3:], "--folds", "full", "--out", model, *settings)
        assert outcome.code == 0, outcome.err
        assert read_oof(project / model) == []
        metrics = json.loads((project / model / "metrics.json").read_text())
        assert metrics["overall"]["n_rows"] == 0
        assert metrics["overall"]["ap"] is None
        assert metrics["folds"] == {}
        (fit,) = metrics["train"]["fits"].values()
        assert fit["n_rows_trained"] == 2000 * len(fit["epochs"])
        scored = run("submit", "--run", model, "--test", "raw/train.parquet", "--out", f"{model}.csv")
        assert scored.code == 0, scored.err


def test_the_spread_over_folds_by_hand(project: Path, run: Run) -> None:
    assert run(*RANK, "--out", "out", "trainer.epochs=1").code == 0
    metrics = json.loads((project / "out/metrics.json").read_text())
    values = [fold["roc_auc"] for fold in metrics["folds"].values()]
    mean = sum(values) / 3
    assert metrics["spread"]["roc_auc"]["mean"] == pytest.approx(mean)
    assert metrics["spread"]["roc_auc"]["sd"] == pytest.approx((sum((v - mean) ** 2 for v in values) / 2) ** 0.5)
