"""The example of vectors in docs/data.md runs: its files, its config, a ranking model and the towers."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.rank import rank
from pipelines.retrieval import retrieval
from recsys.data.dataset import PreparedDataset
from tests.docs.conftest import text_of, text_of_blocks


def test_the_example_of_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    section = text_of("data.md").split("## Vectors\n")[1].split("\n## ")[0]
    (code,), (config,) = text_of_blocks(section, ("python",)), text_of_blocks(section, ("yaml",))
    Path("raw").mkdir()
    Path("images.yaml").write_text(config)
    with monkeypatch.context() as patch:
        patch.chdir("raw")
        exec(code, {})
    rng, n = np.random.default_rng(0), 1000
    rows = {"item_id": rng.integers(0, 200, n), "country": rng.choice(["a", "b"], n), "clicked": rng.integers(0, 2, n)}
    pq.write_table(pa.table(rows), "raw/train.parquet")
    small = ["model.embedding_dim=4", "trainer.epochs=1"]
    rank(model="dcnv2", config=Path("images.yaml"), data=Path("raw"), folds="0", out=Path("ranking"), overrides=small)
    retrieval(config=Path("images.yaml"), data=Path("raw"), split="fold_0", out=Path("towers"), overrides=small)
    assert json.loads(Path("ranking/metrics.json").read_text())["overall"]["n_rows"] > 100
    assert json.loads(Path("towers/metrics.json").read_text())["two_tower"]["recall@10"] >= 0
    (prepared,) = {path.parent for path in Path(".").rglob("schema.json")}
    assert PreparedDataset.open(prepared).manifest.schema_.numeric == tuple(f"image_{number}" for number in range(64))
