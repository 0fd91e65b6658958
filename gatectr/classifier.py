"""A classifier in scikit-learn's form, for cross_val_score, pipelines and searches.

Shapes: N rows, C columns.
"""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import pyarrow as pa
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, column_or_1d, validate_data

from gatectr.api import fit as fit_run
from gatectr.run import Run
from gatectr.settings import Model
from gatectr.tables import to_arrow

_LABEL = "label"
_RUN, _FILES = "run_", "files_of_run"


class CTRClassifier(ClassifierMixin, BaseEstimator):
    """A ranking model of two classes, trained on all rows.

    Columns of numbers are numeric features, and all others categorical, unless `schema` says otherwise. What a run
    needs is in a temporary folder that belongs to the fitted classifier; pickles contain it, with the training rows.

    Args:
        model: as in `gatectr.fit`.
        schema: roles of columns, as the section `schema` of a config without its label; None takes them from the types.
        settings: sections that override the defaults, such as `{"trainer": {"epochs": 2}}`.
        verbose: whether to print progress and tables.

    Attributes:
        classes_: [2] the classes, sorted; the second is the positive one.
        run_: the `Run`.
    """

    def __init__(
        self,
        model: Model = "dcnv2",
        *,
        schema: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.schema = schema
        self.settings = settings
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> Self:
        """Trains the model on [N, C] rows and their [N] classes.

        Raises:
            ValueError: if y does not have two classes, or rows do not match the schema.
        """
        table = self._table(X, is_fit=True)
        if y is None:
            raise ValueError("CTRClassifier requires y to be passed, but the target y is None")
        labels = column_or_1d(y, warn=True)
        check_array(labels, ensure_2d=False, dtype=None, ensure_all_finite=labels.dtype.kind == "f")
        check_consistent_length(labels, np.empty(table.num_rows))
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if (kind := type_of_target(labels)) != "binary":
            raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
        if len(self.classes_) < 2:
            raise ValueError(f"CTRClassifier needs two classes, got 1 class, {self.classes_[0]!r}: add rows of another")
        label = _LABEL
        while label in table.column_names:
            label += "_"
        schema = {**(_roles(table.schema) if self.schema is None else self.schema), "label": label}
        rows = table.append_column(label, pa.array(codes.astype(np.int8)))
        settings = dict(self.settings or {})
        self.run_ = fit_run(rows, schema, self.model, folds="full", verbose=self.verbose, **settings)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Returns the [N, 2] probabilities of the classes, in the order of `classes_`."""
        check_is_fitted(self)
        p = self.run_.predict(self._table(X, is_fit=False), verbose=self.verbose)
        return np.column_stack([1 - p, p])

    def predict(self, X: Any) -> np.ndarray:
        """Returns the [N] more probable classes."""
        positive = self.predict_proba(X)[:, 1] > 0.5
        return np.asarray(self.classes_[positive.astype(int)])

    def _table(self, X: Any, is_fit: bool) -> pa.Table:
        """The rows as a table; columns of arrays are named x0, x1, ..."""
        if isinstance(X, pa.Table) or hasattr(X, "columns"):
            validate_data(self, X, reset=is_fit, skip_check_array=True)
            table = to_arrow(X)
            if table.num_rows == 0 or table.num_columns == 0:
                shape = f"{table.num_rows} sample(s) and {table.num_columns} feature(s)"
                raise ValueError(f"Found a table with {shape} while a minimum of 1 is required.")
            return table
        values = validate_data(self, X, reset=is_fit, dtype=None, ensure_all_finite="allow-nan")
        if values.dtype.kind == "O" and _are_numbers(values):
            values = values.astype(float)
        return pa.table({f"x{index}": pa.array(column) for index, column in enumerate(values.T)})

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True
        tags.input_tags.string = tags.input_tags.categorical = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        run: Run | None = state.pop(_RUN, None)
        if run is not None:
            state[_FILES] = _packed(run.folder.parent)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        files = state.pop(_FILES, None)
        super().__setstate__(state)
        if files is not None:
            self.run_ = _unpacked(files)


def _roles(schema: pa.Schema) -> dict[str, list[str]]:
    numeric = [f.name for f in schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)]
    return {"numeric": numeric, "categorical": [name for name in schema.names if name not in numeric]}


def _are_numbers(values: np.ndarray) -> bool:
    return all(isinstance(value, (int, float, np.number)) or value is None for value in values.flat)


def _packed(folder: Path) -> bytes:
    """The files of a folder as a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder, arcname=".")
    return buffer.getvalue()


def _unpacked(files: bytes) -> Run:
    temporary = TemporaryDirectory(prefix="gatectr-run-")
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        archive.extractall(temporary.name, filter="data")
    folder = Path(temporary.name)
    return Run(folder / "run", folder / "run-data", temporary=temporary)
