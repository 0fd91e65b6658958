"""Writes the vocabularies of a data set, and the encoders of its splits."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow.compute as pc

from recsys.data.dataset import PreparedDataset
from recsys.data.encoder import FeatureEncoder
from recsys.data.vocabulary import Vocabulary
from recsys.raw.values import canonical_text
from recsys.schema.kinds import ValueForm
from serving.runtime.layout import (
    ENCODERS,
    IDS_FILE,
    VOCABULARIES,
    EncoderSpec,
    EncodingSpec,
    VocabularySpec,
)
from serving.runtime.vocabulary import write_index


def write_vocabularies(dataset: PreparedDataset, names: Sequence[str], folder: Path) -> dict[str, VocabularySpec]:
    """Writes the value indexes of vocabularies.

    Args:
        dataset: the data set.
        names: the vocabularies that models read.
        folder: the folder of the bundle.
    """
    specs = {}
    for name in names:
        vocabulary, place = dataset.vocabularies[name], quote(name, safe="")
        (folder / VOCABULARIES / place).mkdir(parents=True)
        write_index(vocabulary.values, folder / VOCABULARIES / place)
        refused = _refused(vocabulary, dataset.manifest.schema_.form_of(name))
        specs[name] = VocabularySpec(folder=place, n_codes=vocabulary.n_codes, numbers_refused=refused)
    return specs


def _refused(vocabulary: Vocabulary, form: ValueForm) -> str | None:
    """A value from CSV files that no number has as its text; None without one."""
    if form.text_as != "whole numbers":
        return None
    canonical = canonical_text(vocabulary.values, form=ValueForm(text_as="numbers"))
    others = np.flatnonzero(np.asarray(pc.not_equal(vocabulary.values, canonical)))
    return str(vocabulary.values[int(others[0])].as_py()) if len(others) else None


def write_encoder(encoder: FeatureEncoder, name: str, folder: Path) -> EncoderSpec:
    """Writes the encoder of a split.

    Args:
        encoder: the encoder.
        name: its folder in the bundle.
        folder: the folder of the bundle.
    """
    place, schema = folder / ENCODERS / name, encoder.schema
    place.mkdir(parents=True)
    np.save(place / IDS_FILE, encoder.ids)
    encodings = []
    of_codes, of_tokens = encoder.encodings.by_code, encoder.encodings.by_token.items()
    tables = [*of_codes, *((feature, encoding.table) for feature, encoding in of_tokens)]
    for number, (feature, table) in enumerate(tables):
        file = f"encodings_{number}.npy"
        np.save(place / file, np.ascontiguousarray(table.of_code.T))  # rows of a request are in no group
        encodings.append(EncodingSpec(feature=feature, file=file))
    for number, (_, encoding) in enumerate(of_tokens, len(of_codes)):
        standardized = {"mean": tuple(encoding.mean.tolist()), "deviation": tuple(encoding.deviation.tolist())}
        encodings[number] = encodings[number].model_copy(update=standardized)
    starts = dict(zip(schema.categorical, encoder.sparse_start.tolist(), strict=True))
    starts |= {sequence.vocabulary: encoder.token_start[sequence.name] for sequence in schema.token_sequences}
    return EncoderSpec(
        name=name,
        categorical=schema.categorical,
        measured=schema.measured,
        n_numeric=encoder.n_numeric,
        stats=encoder.stats,
        indicators=tuple(encoder.indicator_columns),
        encodings=tuple(encodings),
        starts=starts,
        n_ids=schema.num_embeddings,
    )
