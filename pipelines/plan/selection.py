"""Leaves out the features without which a run loses nothing on the tuning part, for a step that a gate then judges.

No row of the tuning part is evaluated by other runs, so that no row that the gate reads took part in the choice.
"""

from collections.abc import Iterable
from pathlib import Path

from pipelines.importance import importance
from recsys.config import StrictModel, validate
from recsys.data.dataset import PreparedDataset
from recsys.evaluation.importance import IMPORTANCE_FILE, FeatureImportance, Importances
from recsys.schema.feature_selection import FeatureConfig
from recsys.schema.resolved import Schema
from recsys.system.files import read_json, write_json
from recsys.system.progress import console

SELECTION_FILE = "selection.json"
_REPEATS = 3
"""Permutations: without a feature of no use, the loss of a single one is above zero by chance every second time."""


class Selection(StrictModel):
    """The contents of selection.json: what to leave out, as in the section `features`."""

    leave_out: tuple[str, ...] = ()
    leave_out_numeric: tuple[str, ...] = ()
    leave_out_encodings: tuple[str, ...] = ()


def select_features(run: Path, dataset: PreparedDataset) -> None:
    """Measures the features of a run on the rows that it is evaluated on, and writes selection.json into its folder.

    Args:
        run: a finished run folder on the tuning part.
        dataset: its data set.
    """
    if not (run / SELECTION_FILE).is_file():
        importance(run=run, by="feature", repeats=_REPEATS, data=dataset.folder)
        measured = validate(Importances, read_json(run / IMPORTANCE_FILE), str(run / IMPORTANCE_FILE))
        write_json(run / SELECTION_FILE, useless_features(measured, dataset.manifest.schema_).model_dump())
    left_out = [name for names in read_selection(run).model_dump().values() for name in names]
    console.print(f"{run.name} loses nothing without {', '.join(dict.fromkeys(left_out)) or 'no feature'}")


def useless_features(measured: Importances, schema: Schema) -> Selection:
    """The features whose permutation does not raise the log loss; none if that is so of all of them.

    The target item, sequences and the score of a retrieval run are kept.

    Args:
        measured: the importance of single features.
        schema: schema of the data set.
    """
    read = [feature for feature in measured.features if feature.is_read]
    useless = _names(feature for feature in read if feature.losses["logloss"].loss <= 0)
    if len(useless) == len(_names(read)):
        return Selection()
    return Selection(
        leave_out=tuple(
            name for name in schema.categorical if name in useless - {schema.target_item} - schema.products.keys()
        ),
        leave_out_numeric=tuple(name for name in schema.numeric_features if name in useless),
        leave_out_encodings=tuple(name for name in schema.encodings if name in useless),
    )


def _names(features: Iterable[FeatureImportance]) -> set[str | None]:
    return {name for feature in features for name in feature.features}


def read_selection(run: Path) -> Selection:
    """The selection in a run folder; an empty one before `select_features`."""
    path = run / SELECTION_FILE
    return validate(Selection, read_json(path), str(path)) if path.is_file() else Selection()


def with_selection(features: FeatureConfig, selection: Selection) -> FeatureConfig:
    """Adds what a selection leaves out to what the config leaves out."""
    added = {name: (*getattr(features, name), *names) for name, names in selection.model_dump().items() if names}
    return features.model_copy(update={name: tuple(dict.fromkeys(names)) for name, names in added.items()})
