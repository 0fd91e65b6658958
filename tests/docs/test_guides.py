"""The commands of README and of the guides run in a shell as printed, one page after another, in one folder.

Left out are lines that need what no test has (a cluster, a download, a package to install), the experiments of
docs/results.md and the benchmarks, whose own tests run them on less; tests/docs/test_commands.py parses all of them.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.docs.conftest import DOCS, text_of_blocks
from tests.pipelines.test_first_hour import ROOT, write_csv

pytestmark = pytest.mark.slow

LEFT_OUT = re.compile(r"benchmarks\.|HOST|\bRUN\b|--source|pip install|python3 -m venv|^make |pipelines\.serve|^curl")
LESS = {"--rows 200000": "--rows 20000", "--out runs/plan": "--out runs/plan --dry-run"}
"""What stands in the tests for commands that take longer."""
ENDPOINT = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the commands of docs/commands.md were run."""
    folder = tmp_path_factory.mktemp("guides")
    follow(DOCS / "commands.md", folder, ("console",))
    return folder


def environment() -> dict[str, str]:
    """The programs of this environment first, as after `source .venv/bin/activate`."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def follow(page: Path, folder: Path, languages: tuple[str, ...] = ("bash", "python")) -> str:
    """Runs the blocks of a page in a folder; returns what they print."""
    printed = ""
    for language in languages:
        for block in text_of_blocks(page.read_text(encoding="utf-8"), (language,)):
            if language == "python":
                printed += run(["python", "-c", block], folder)
                continue
            lines = [line for line in block.splitlines() if not LEFT_OUT.search(line)]
            for text, less in LESS.items():
                lines = [line.replace(text, less) for line in lines]
            printed += run(["bash", "-euc", "\n".join(lines)], folder)
    return printed


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def test_the_commands(folder: Path) -> None:
    assert (folder / "submission.csv").is_file()
    assert (folder / "runs/trees-importance.json").is_file() or (folder / "runs/trees/importance.json").is_file()


def test_comparisons(folder: Path) -> None:
    for run_name, model in (("trees", "gbdt"), ("crosses", "dcnv2")):
        options = f"--model {model} --data prepared/toss --folds 0 --out runs/{run_name}-$seed trainer.seed=$seed"
        run(["bash", "-euc", f"for seed in 0 1 2; do gatectr rank {options}; done"], folder)
    printed = follow(DOCS / "comparisons.md", folder)
    assert printed.count("95 % interval") >= 2
    assert (folder / "differences.json").is_file()


@pytest.mark.parametrize("page", ["models.md", "training.md", "plan.md", "retrieval.md"])
def test_a_guide(page: str, folder: Path) -> None:
    if page == "retrieval.md":
        if "GATECTR_DATA" not in os.environ:
            pytest.skip("needs public data")
        prepare_films(folder)
    assert follow(DOCS / page, folder)


def prepare_films(folder: Path) -> None:
    """The run and the requests of the guide."""
    ratings = Path(os.environ["GATECTR_DATA"]) / "ml-100k/ratings.parquet"
    options = "--config configs/movielens100k_retrieval.yaml --out runs/films trainer.epochs=1"
    run(["gatectr", "retrieval", *options.split()], folder)
    pq.write_table(pq.read_table(ratings).slice(0, 100), folder / "requests.parquet")


def test_readme(tmp_path: Path) -> None:
    """Own data, three lines of Python, a bundle, its server and a request of curl."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (config,) = text_of_blocks(text, ("yaml",))
    (tmp_path / "mine.yaml").write_text(config)
    schema = {"label": "clicked", "categorical": ["country", "device", "ad"], "numeric": ["price"]}
    write_csv(tmp_path / "train.csv", schema, 2000, seed=0, has_label=True)
    write_csv(tmp_path / "test.csv", schema, 200, seed=1, has_label=False)
    follow(ROOT / "README.md", tmp_path)
    assert len((tmp_path / "submission.csv").read_text().splitlines()) == 201

    lines = [line for block in text_of_blocks(text, ("bash",)) for line in block.splitlines()]
    (serve,) = (line for line in lines if "pipelines.serve" in line)
    (curl,) = (line for line in lines if line.startswith("curl"))
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    with subprocess.Popen(["bash", "-c", f"exec {serve}"], cwd=tmp_path, env=environment()) as server:
        try:
            run(
                ["curl", "-s", "--retry", "60", "--retry-delay", "1", "--retry-connrefused", f"{ENDPOINT}/health"],
                tmp_path,
            )
            assert '"scores"' in run(["bash", "-euc", curl], tmp_path)
        finally:
            server.terminate()
    assert server.returncode == 0
