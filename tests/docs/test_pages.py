"""Every code block of the tutorials runs as printed; what they print is what the text says."""

import json
import re
from pathlib import Path

import pytest

import gatectr
from recsys.synthetic import GeneratorConfig, generate
from tests.docs.conftest import Page, blocks_of

NEW = (
    "install",
    "own_model",
    "own_parts",
    "tutorials/own_data",
    "tutorials/python",
    "tutorials/plan",
    "tutorials/retrieval",
    "tutorials/gpus",
    "tutorials/serving",
    "insight",
)


@pytest.mark.slow
def test_from_a_csv(follow: Page) -> None:
    printed = follow("tutorials/own_data.md")
    with Path("submission.csv").open() as file:
        assert len(file.readlines()) == 501
    assert json.loads(printed[-1])["overall"]["roc_auc"] > 0.6
    assert any("95 % interval" in text for text in printed)


def test_from_python(follow: Page) -> None:
    pytest.importorskip("pandas")
    printed = follow("tutorials/python.md")
    assert "the table has no column 'ad'" in "".join(printed)
    assert "row_id" in "".join(printed)


@pytest.mark.slow
def test_a_plan(follow: Page) -> None:
    printed = follow("tutorials/plan.md")
    assert Path("runs/my_plan/report.html").is_file()
    assert Path("runs/my_plan/submission.csv").is_file()
    assert re.search("(adopt|reject|keep) runs/my_plan/report.html", printed[-1])


@pytest.mark.slow
def test_features_and_drift(follow: Page) -> None:
    printed = "".join(follow("insight.md"))
    assert "what it loses without each feature" in printed
    assert "train / test: ROC-AUC" in printed
    assert "day 1 / day 7: ROC-AUC" in printed


def test_retrieval(follow: Page) -> None:
    printed = follow("tutorials/retrieval.md")
    assert "'item', 'score'] 4500" in printed[-1]


def test_serving(follow: Page) -> None:
    printed = follow("tutorials/serving.md")
    assert "scores differ from the run by at most" in "".join(printed)
    assert printed[-1].count(",") >= 4  # five items


def test_gpus(follow: Page) -> None:
    assert "GiB" in "".join(follow("tutorials/gpus.md"))


def test_installing(follow: Page) -> None:
    assert "torch 2." in "".join(follow("install.md"))


def test_a_model_of_ones_own(follow: Page) -> None:
    prepare_demo()
    follow("own_model.md")
    assert (Path("runs/mine") / "metrics.json").is_file()
    assert Path("submission.csv").is_file()


def test_parts_of_ones_own(follow: Page) -> None:
    prepare_demo()
    printed = follow("own_parts.md")
    assert " lift " in "".join(printed)
    metrics = json.loads(Path("runs/parts/metrics.json").read_text())
    assert f"{metrics['own_metrics']['my_parts:lift']['overall']}\n" in printed


def prepare_demo() -> None:
    """Prepares prepared/demo as the tutorial on plans does."""
    raw = generate(GeneratorConfig(n_rows=4000), Path("data/demo"))
    gatectr.prepare(raw / "train.parquet", "toss", "prepared/demo", test=raw / "test.parquet")


@pytest.mark.parametrize("page", NEW)
def test_other_programs_are_marked(page: str) -> None:
    languages = {language for language, _ in blocks_of(f"{page}.md")}
    assert languages <= {"python", "bash", "yaml", "console", "mermaid"}
