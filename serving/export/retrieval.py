"""Adds a retrieval run to a bundle: the user tower, the index of the items, and the items' columns."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from recsys.data.dataset import PreparedDataset
from recsys.data.split import Split
from recsys.data.vocabulary import N_RESERVED
from recsys.errors import InputError
from recsys.evaluation.calibration.calibrator import Calibrator
from recsys.evaluation.logits import LogitLink
from recsys.system.files import write_json
from retrieval.catalog import Catalog
from retrieval.index import INDEX_FILE
from retrieval.two_tower import TwoTower
from serving.export.encoders import write_encoder, write_vocabularies
from serving.export.example import UNSEEN, raw_columns
from serving.export.graphs.user_tower import sequences_by_event, write_user_tower
from serving.export.parity import TOLERANCE, as_request, sampled_rows
from serving.runtime.bundle import Bundle
from serving.runtime.encoder import Needs
from serving.runtime.layout import (
    ITEM,
    ITEM_CODES_FILE,
    ITEMS_FILE,
    MODELS,
    RETRIEVAL,
    RETRIEVAL_FILE,
    BundleSpec,
    FitSpec,
    MemberSpec,
    RetrievalSpec,
)


@dataclass(frozen=True)
class ExportedRetrieval:
    """What a bundle takes of a finished retrieval run."""

    folder: Path
    model: TwoTower
    """On the CPU."""
    split: Split
    catalog: Catalog
    dataset: PreparedDataset


def write_retrieval(retrieval: ExportedRetrieval, folder: Path, spec: BundleSpec) -> float:
    """Writes the files of a retrieval run into the folder of a bundle.

    Args:
        retrieval: the run.
        folder: the folder of the bundle, with the files of its ranking models.
        spec: its bundle.json, whose vocabularies are those of the data set that the run was trained on.

    Returns:
        The largest difference of a component of a request's vector from the run's own.

    Raises:
        InputError: when the towers cannot be exported, or were trained on other data than the ranking models.
    """
    dataset, model, split = retrieval.dataset, retrieval.model, retrieval.split
    if dataset.manifest.fingerprint != spec.data:
        raise InputError(
            f"{retrieval.folder} was not trained on the data set of the ranking models: train both on the same one"
        )
    schema, rows = dataset.manifest.schema_, sampled_rows(dataset)
    numbers = np.asarray(rows.numbers)
    with torch.no_grad():
        batch = split.batch(numbers, model.sequences)
        expected = model.eval().user_vectors(batch, len(batch)).float().numpy()
    encoder = write_encoder(split.encoder, RETRIEVAL, folder)
    graph = write_user_tower(model, split.schema, folder, f"{MODELS}/{RETRIEVAL}")
    fit = FitSpec(name=RETRIEVAL, encoder=0, link=LogitLink(1.0, 1.0), calibrator=Calibrator(), model=graph)
    tower = spec.model_copy(
        update={"encoders": (encoder,), "members": (MemberSpec(name=RETRIEVAL, fits=(fit,)),), "stack": None}
    )
    shutil.copyfile(retrieval.folder / INDEX_FILE, folder / INDEX_FILE)
    target = model.target
    vocabulary = {s.name: s.vocabulary for s in schema.token_sequences}
    histories = [name for name in sequences_by_event(model) if vocabulary[name] == target]
    histories += [name for name in model.request_features.features if vocabulary.get(name) == target]
    needs = Needs.of(tower)
    read = {*needs.categorical, *(vocabulary[name] for name in needs.sequences)} - spec.vocabularies.keys()
    added = write_vocabularies(dataset, [name for name in dataset.vocabularies if name in read], folder)
    tower = tower.model_copy(update={"vocabularies": spec.vocabularies | added})
    columns = _item_columns(dataset, tuple(dict.fromkeys((*needs.columns, *Needs.of(spec).columns))))
    _write_items(dataset, retrieval.catalog, columns, folder)
    item_spec = RetrievalSpec(tower=tower, item_columns=columns, histories=tuple(histories))
    write_json(folder / RETRIEVAL_FILE, item_spec.model_dump(mode="json", by_alias=True))
    vectors = Bundle(folder, tower, n_threads=1).outputs([as_request(rows, tower, needs)])
    difference = float(np.max(np.abs(vectors - expected)))
    if not difference <= TOLERANCE:
        raise InputError(
            f"the exported user tower differs from the run by {difference:.2g}, at most {TOLERANCE:g} is accepted: the "
            "installed versions of torch and onnxruntime do not fit each other, change one of them"
        )
    return difference


def _item_columns(dataset: PreparedDataset, columns: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the columns of a request that are the item's."""
    schema = dataset.manifest.schema_
    own = {*schema.towers["item"], str(schema.target_item)}
    own |= {s.column for s in schema.token_sequences if s.name in own}
    return tuple(name for name in columns if name in own)


def _write_items(dataset: PreparedDataset, catalog: Catalog, columns: tuple[str, ...], folder: Path) -> None:
    """Writes the items' names and columns, and the item of each code of the target's vocabulary."""
    target = str(dataset.manifest.schema_.target_item)
    values = raw_columns(dataset, columns, catalog.rows, rare=UNSEEN)
    table = {ITEM: catalog.names.cast(pa.string())} | {name: pa.array(of) for name, of in values.items()}
    items = pa.table(table)
    with pa.OSFile(str(folder / ITEMS_FILE), "wb") as sink, pa.ipc.new_file(sink, items.schema) as writer:
        writer.write_table(items)
    vocabulary = dataset.vocabularies[target]
    place = {name: index for index, name in enumerate(catalog.names.to_pylist())}
    item_of_code = np.full(vocabulary.n_codes, -1, np.int32)
    item_of_code[N_RESERVED:] = [place.get(name, -1) for name in vocabulary.values.to_pylist()]
    np.save(folder / ITEM_CODES_FILE, item_of_code)
