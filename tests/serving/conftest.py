"""A run of every model, and its bundle."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.export import export
from serving.runtime.bundle import Bundle
from tests.helpers.serving import prepare_data, train


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_data(tmp_path_factory.mktemp("serving"))


@pytest.fixture(scope="session")
def run_of(prepared: Path) -> Callable[[str], Path]:
    """`run_of("dcnv2")` is the folder of a finished run of fold 0."""

    def folder(model: str) -> Path:
        run = prepared.parent / f"run-{model}"
        return run if run.is_dir() else train(model, prepared, run)

    return folder


@pytest.fixture(scope="session")
def bundle_of(prepared: Path, run_of: Callable[[str], Path]) -> Callable[[str], Bundle]:
    """`bundle_of("dcnv2")` is the bundle of that run."""
    loaded: dict[str, Bundle] = {}

    def bundle(model: str) -> Bundle:
        if model not in loaded:
            out = prepared.parent / "bundles" / model
            if not out.is_dir():
                export(run=run_of(model), out=out, scale="balanced")
            loaded[model] = Bundle.load(out, n_threads=1)
        return loaded[model]

    return bundle
