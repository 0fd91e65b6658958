from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys.errors import InputError
from recsys.evaluation.logits import probability
from recsys.runs.oof import OofColumns, read_oof, write_oof


def columns(n_seeds: int) -> OofColumns:
    rng = np.random.default_rng(0)
    raw = rng.normal(-3, 1, (5, n_seeds))
    return OofColumns(
        row_id=pa.array(["a", "b,c", 'd"', "e", ""]),
        fold=np.array(["0", "0", "1", "1", "1"]),
        label=np.array([0, 1, 0, 0, 1]),
        raw_by_seed=raw,
        natural_by_seed=raw / 3 - 0.1,
        weight=np.array([1, 2, 0.5, 1, 1], np.float32),
        user=np.array([3, 3, -1, 0, 1], np.int32),
        day=np.array([0, 1, 2, -1, 3], np.int16),
        is_known=np.array([True, False, True, True, False]),
    )


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_a_file_gives_back_every_digit(n_seeds: int, tmp_path: Path) -> None:
    written = columns(n_seeds)
    write_oof(tmp_path / "oof.csv", written)
    found = read_oof(tmp_path / "oof.csv")
    assert found.row_id.to_pylist() == written.row_id.to_pylist()
    for name in ("fold", "label", "raw_by_seed", "natural_by_seed", "weight", "user", "day", "is_known"):
        assert np.array_equal(getattr(found, name), getattr(written, name)), name
    assert not found.is_earlier_version


def test_the_columns_of_one_seed_and_of_several(tmp_path: Path) -> None:
    names = {}
    for n_seeds in (1, 2):
        write_oof(tmp_path / "oof.csv", columns(n_seeds))
        names[n_seeds] = (tmp_path / "oof.csv").read_text().splitlines()[0].split(",")
    optional = ["weight", "user", "day", "known_user"]
    assert names[1] == ["row_id", "fold", "label", "logit", "p", "raw_logit", *optional]
    seeds = ["raw_logit_1", "raw_logit_2", "logit_1", "logit_2"]
    assert names[2] == ["row_id", "fold", "label", "logit", "p", *seeds, *optional]
    row = (tmp_path / "oof.csv").read_text().splitlines()[1].split(",")
    mean = columns(2).natural_by_seed.mean(axis=1)[0]
    assert (float(row[3]), float(row[4])) == (mean, probability(np.array([mean]))[0])


def test_a_file_of_an_earlier_version(tmp_path: Path) -> None:
    (tmp_path / "oof.csv").write_text("row_id,fold,label,logit,p,weight\na,0,1,0.5,0.02,2\nb,1,0,-0.5,0.01,1\n")
    found = read_oof(tmp_path / "oof.csv")
    assert found.is_earlier_version
    assert found.natural_by_seed.tolist() == [[0.5], [-0.5]]
    assert found.weight is not None
    assert found.weight.tolist() == [2, 1]
    assert found.user is found.day is found.is_known is None


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "oof.csv").write_text("row_id,fold,label,logit,p,raw_logit\na,0,1,x,0.02,1\n")
    with pytest.raises(InputError, match=r"oof.csv is not readable .*: run it again with another --out"):
        read_oof(tmp_path / "oof.csv")
