"""The public data sets that `pipelines.convert` knows."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipelines.public_data import avazu, criteo, frappe, kuairand, movielens
from pipelines.public_data.download import Download


@dataclass(frozen=True)
class PublicData:
    """A public data set."""

    convert: Callable[[Download, Path], None]
    """Writes the parquet files into a folder.

    Raises:
        InputError: for a missing file, or one of another format.
    """
    command: str
    """A first command for the result, without its folder."""


_RANK = "pipelines.rank --model dcnv2 --config configs"
DATA_SETS = {
    "criteo": PublicData(criteo.convert, f"{_RANK}/criteo.yaml"),
    "avazu": PublicData(avazu.convert, f"{_RANK}/avazu.yaml"),
    "frappe": PublicData(frappe.convert, f"{_RANK}/frappe.yaml"),
    "kuairand": PublicData(kuairand.convert, f"{_RANK}/kuairand.yaml"),
    "movielens-1m": PublicData(movielens.convert_1m, f"{_RANK}/movielens.yaml"),
    "movielens-100k": PublicData(
        movielens.convert_100k, "pipelines.retrieval --config configs/movielens100k_retrieval.yaml"
    ),
}
