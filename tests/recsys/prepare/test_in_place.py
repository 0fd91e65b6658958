"""In-place replacement of codes over several record batches of a file."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.data.config import PrepareConfig, RawFiles
from recsys.data.dataset import PreparedDataset
from recsys.data.layout import BLOCK_ROWS
from recsys.data.vocabulary import N_RESERVED
from recsys.prepare.run import prepare
from recsys.schema.config import SchemaConfig

N_ROWS = 2 * BLOCK_ROWS + 1000


def test_decoded_values_equal_the_raw_values(tmp_path: Path) -> None:
    """Batches end within blocks, and a middle block has no tokens."""
    rng = np.random.default_rng(0)
    color = rng.integers(0, 40, N_ROWS) + np.arange(N_ROWS) // 10_000  # each batch has new values
    shade = rng.integers(0, 5, N_ROWS)
    n_tokens = rng.integers(0, 4, N_ROWS)
    n_tokens[BLOCK_ROWS : 2 * BLOCK_ROWS] = 0
    token = rng.integers(0, 30, n_tokens.sum())
    seen = pa.ListArray.from_arrays(np.concatenate([[0], np.cumsum(n_tokens)]).astype(np.int32), pa.array(token))
    is_null = rng.random(N_ROWS) < 0.1
    columns = {
        "label": pa.array(np.arange(N_ROWS) % 2),
        "color": pa.array(color, mask=is_null),
        "shade": pa.array(shade),
        "seen": seen,
    }
    pq.write_table(pa.table(columns), tmp_path / "train.parquet", row_group_size=23_456)
    schema = SchemaConfig.model_validate(
        {"label": "label", "categorical": ["color", "shade"], "sequences": {"seen": {"kind": "list", "max_length": 3}}}
    )
    prepare(
        schema, RawFiles(train=("train.parquet",)), PrepareConfig(min_count=1), tmp_path, tmp_path / "out", "blocks"
    )

    dataset, rows = PreparedDataset.open(tmp_path / "out"), np.arange(N_ROWS)
    codes = dataset.store.read_sparse(rows)
    for place, (name, values) in enumerate({"color": np.where(is_null, -1, color), "shade": shade}.items()):
        text = np.array(dataset.vocabularies[name].values.to_pylist()).astype(int)
        assert np.array_equal(
            np.append(text, -1)[np.where(codes[:, place] == 0, -1, codes[:, place] - N_RESERVED)], values
        )
    found, lengths = dataset.store.read_tokens("seen", rows)
    text = np.array(dataset.vocabularies["seen"].values.to_pylist()).astype(int)
    assert np.array_equal(lengths, n_tokens)
    assert np.array_equal(text[found - N_RESERVED], token)
