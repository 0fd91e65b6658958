"""The five commands of README's section on own data run as printed, on a generated CSV."""

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.helpers.commands import Run

ROOT = Path(__file__).parents[2]
TITLE = "Own data: from a CSV to a submission"
N_TRAIN, N_TEST = 600, 50


@pytest.fixture(scope="module")
def section() -> str:
    """The section of README.md."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(TITLE)}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section {TITLE!r}"
    return found[1]


def block_of(section: str, language: str) -> str:
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return str(block)


def write_csv(path: Path, schema: dict[str, object], n: int, seed: int, has_label: bool) -> None:
    """Writes random values in the columns that the config names; the click depends on the first two."""
    rng = np.random.default_rng(seed)
    categorical, numeric = schema["categorical"], schema["numeric"]
    assert isinstance(categorical, list)
    assert isinstance(numeric, list)
    codes = {name: rng.integers(0, 5, n) for name in categorical}
    numbers = {name: rng.normal(size=n).round(3) for name in numeric}
    clicked = rng.random(n) < 0.15 + 0.3 * (codes[categorical[0]] == 0) + 0.3 * (codes[categorical[1]] < 2)
    columns = {name: [f"v{code}" for code in values] for name, values in codes.items()} | numbers
    if has_label:
        columns = {str(schema["label"]): clicked.astype(int)} | columns
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def test_the_commands_as_printed(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.chdir(tmp_path)
    config = block_of(section, "yaml")
    Path("mine.yaml").write_text(config)
    schema = yaml.safe_load(config)["schema"]
    header = re.findall(r"^```\n(.*?)\n", section, re.MULTILINE)[0].split(",")
    assert header == [schema["label"], *schema["categorical"], *schema["numeric"]]
    write_csv(Path("train.csv"), schema, N_TRAIN, seed=0, has_label=True)
    write_csv(Path("test.csv"), schema, N_TEST, seed=1, has_label=False)

    commands = block_of(section, "bash").splitlines()
    assert len(commands) == 5
    for command in commands:
        python, option, module, *arguments = shlex.split(command)
        assert (python, option) == ("python", "-m")
        outcome = run(module.removeprefix("pipelines."), *arguments)
        assert outcome.code == 0, (command, outcome.err)

    ensemble = Path(commands[3].split()[-1])
    with Path("submission.csv").open() as file:
        p = np.array([float(row[schema["label"]]) for row in csv.DictReader(file)])
    assert len(p) == N_TEST
    assert ((p > 0) & (p < 1)).all()
    assert json.loads((ensemble / "metrics.json").read_text())["overall"]["roc_auc"] > 0.6
