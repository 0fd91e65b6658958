"""A config key in the wrong place: the error names the section it belongs to."""

from pathlib import Path

import pytest

from pipelines.common.cli import TOSS_CONFIG
from pipelines.common.config import load_rank_config, load_retrieval_config
from recsys.errors import InputError
from tests.helpers.commands import Run


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("embedding_dim=32", "unknown key 'embedding_dim'; did you mean 'model.embedding_dim'?"),
        ("batch_size=256", "unknown key 'batch_size'; did you mean 'trainer.batch_size'?"),
        ("min_count=3", "'min_count'; did you mean 'features.min_count' or 'prepare.min_count'?"),
        ("label=clicked", "'label'; did you mean 'schema.label'?"),
        ("lable=clicked", "'lable'; did you mean 'schema.label'?"),
        ("traner.epochs=3", "'traner'; did you mean 'trainer'?"),
        ("nothing_like_it=1", "'nothing_like_it': the sections of a config are model, trainer, features, name, files,"),
        ("model.batch_size=256", "'model.batch_size'; did you mean 'trainer.batch_size'?"),
        ("trainer.dropout=0", "'trainer.dropout'; did you mean 'model.dropout'?"),
        ("trainer.epoch=3", "'trainer.epoch'; did you mean 'trainer.epochs'?"),
        ("schema.weights=w", "'schema.weights'; did you mean 'schema.weight'?"),
        (
            "trainer.early_stopping.patienc=3",
            "'trainer.early_stopping.patienc'; did you mean 'trainer.early_stopping.pat",
        ),
        ("lr=.1", "'lr'; did you mean 'model.learning_rate' or 'trainer.learning_rate'?"),
        ("trainer.lr=.1", "'trainer.lr'; did you mean 'model.learning_rate' or 'trainer.learning_rate'?"),
        ("dim=8", "'dim'; did you mean 'model.embedding_dim'?"),
    ],
)
def test_a_setting_outside_its_section(override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_rank_config(TOSS_CONFIG, "dcnv2", [override])
    assert message in str(caught.value)


def test_a_setting_of_retrieval_outside_its_section() -> None:
    for override, place in (("output_dim=8", "model.output_dim"), ("kind=flat", "index.kind"), ("day=d", "schema.day")):
        with pytest.raises(InputError, match=f"did you mean '{place}'"):
            load_retrieval_config(TOSS_CONFIG, [override])
    settings = load_retrieval_config(TOSS_CONFIG, ["positives=all", "model.output_dim=8"]).retrieval
    assert (settings.positives, settings.model.output_dim) == ("all", 8)


def test_a_key_at_the_top_level_of_a_file(project: Path, run: Run) -> None:
    config = project / "config.yaml"
    config.write_text(f"batch_size: 256\n{config.read_text()}")
    for command in ("rank", "retrieval"):
        model = ("--model", "dcnv2") if command == "rank" else ()
        outcome = run(command, *model, "--config", "config.yaml", "--data", "raw")
        assert outcome.code == 2
        assert outcome.err == "error: config.yaml: unknown key 'batch_size'; did you mean 'trainer.batch_size'?\n"
    assert sorted(path.name for path in project.iterdir()) == ["config.yaml", "raw"]
