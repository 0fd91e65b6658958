"""The libraries of trees by name; XGBoost and CatBoost are imported where they are used: they are optional."""

from importlib.util import find_spec
from pathlib import Path

from ranking.trees.config import GBDTConfig, TreeLibrary
from ranking.trees.library import Forest, Growth
from ranking.trees.lightgbm_trees import LightGBMForest, LightGBMGrowth
from ranking.trees.rows import LabeledTable
from recsys.errors import InputError

_FILES: dict[TreeLibrary, str] = {"lightgbm": "model.txt", "xgboost": "model.ubj", "catboost": "model.cbm"}


def tree_file(library: TreeLibrary) -> str:
    """The name of the file with the trees of a fit, in the library's own format, which holds no code."""
    return _FILES[library]


def begin_growth(
    config: GBDTConfig,
    seed: int,
    fitted: LabeledTable,
    monitored: LabeledTable | None,
    categorical: list[int],
    name: str,
    patience_trees: int,
) -> Growth:
    """Prepares the rows of a fit for the library of the settings; see `LightGBMGrowth` and `CatBoostGrowth`.

    Raises:
        InputError: if the library is not installed, or refuses the rows.
    """
    _check_installed(config.library)
    match config.library:
        case "lightgbm":
            return LightGBMGrowth(config, seed, fitted, monitored, categorical, name)
        case "xgboost":
            from ranking.trees.xgboost_trees import XGBoostGrowth

            return XGBoostGrowth(config, seed, fitted, monitored, categorical, name)
        case "catboost":
            from ranking.trees.catboost_trees import CatBoostGrowth

            return CatBoostGrowth(config, seed, fitted, monitored, categorical, name, patience_trees)


def load_forest(library: TreeLibrary, path: Path) -> Forest:
    """Reads the trees of a fit.

    Raises:
        InputError: if the library is not installed.
    """
    _check_installed(library)
    match library:
        case "lightgbm":
            return LightGBMForest.load(path)
        case "xgboost":
            from ranking.trees.xgboost_trees import XGBoostForest

            return XGBoostForest.load(path)
        case "catboost":
            from ranking.trees.catboost_trees import CatBoostForest

            return CatBoostForest.load(path)


def _check_installed(library: TreeLibrary) -> None:
    if find_spec(library) is None:
        raise InputError(
            f"model.library={library}: {library} is not installed: pip install 'gatectr[trees]', or choose lightgbm"
        )
