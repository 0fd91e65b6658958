"""Loads a bundle and scores requests: the mean of fits, the stack of members, the calibration.

from serving.runtime.bundle import Bundle
scores = Bundle.load(Path("bundle")).score(candidates, user)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recsys.config import validate
from recsys.errors import InputError
from recsys.evaluation.logits import probability
from recsys.system.files import is_done, read_json
from recsys.system.seal import verify
from recsys.system.threads import n_cores
from serving.runtime.encoder import Encoded, RequestEncoder
from serving.runtime.layout import (
    BUNDLE_FILE,
    CARD_FILE,
    ENCODERS,
    EXAMPLE_FILE,
    FORMAT_VERSION,
    VOCABULARIES,
    BundleSpec,
    FitSpec,
    GraphSpec,
)
from serving.runtime.models import GraphModel, Model, UserModel
from serving.runtime.request import Request, read_request
from serving.runtime.split_encoder import SplitEncoder
from serving.runtime.trees import TreeModel
from serving.runtime.vocabulary import ValueIndex


@dataclass(frozen=True)
class Scores:
    """Scores of [n] candidates."""

    logit: np.ndarray
    """float64 natural logits, the logits of p."""
    log_pos_weight: float

    @property
    def p(self) -> np.ndarray:
        """Click probabilities."""
        return probability(self.logit)

    @property
    def q(self) -> np.ndarray:
        """Class-balanced probabilities."""
        return probability(self.logit + self.log_pos_weight)


class Bundle:
    """A loaded bundle.

    Args:
        folder: the folder.
        spec: its bundle.json.
        n_threads: threads of a call.
    """

    def __init__(self, folder: Path, spec: BundleSpec, n_threads: int) -> None:
        self.folder, self.spec = folder, spec
        indexes = {
            name: ValueIndex(folder / VOCABULARIES / vocabulary.folder)
            for name, vocabulary in spec.vocabularies.items()
        }
        self._encode = RequestEncoder(spec, indexes)
        needs = self._encode.needs
        vocabulary_of = {name: vocabulary for vocabulary, names in spec.schema_.vocabularies.items() for name in names}
        self._encoders = [SplitEncoder(encoder, folder / ENCODERS / encoder.name, needs) for encoder in spec.encoders]
        self._models: list[list[tuple[FitSpec, Model]]] = [
            [(fit, _open(fit, folder, self._encoders[fit.encoder], vocabulary_of, n_threads)) for fit in member.fits]
            for member in spec.members
        ]

    @classmethod
    def load(cls, folder: Path, n_threads: int | None = None, is_verified: bool = True) -> "Bundle":
        """Loads a bundle.

        Args:
            folder: the folder that `pipelines.export` wrote.
            n_threads: threads of a call; None for all cores.
            is_verified: whether to compare every file with its checksum.

        Raises:
            InputError: when the folder is not a complete bundle of this version, or a file is damaged.
        """
        if not is_done(folder) or not (folder / BUNDLE_FILE).is_file():
            raise InputError(
                f"{folder} is not a bundle: write one with python -m pipelines.export --run RUN --out {folder}"
            )
        values = read_json(folder / BUNDLE_FILE)
        if not isinstance(values, dict) or values.get("format_version") != FORMAT_VERSION:
            raise InputError(f"{folder} was exported by another version: export the run again")
        if is_verified:
            verify(folder)
        spec = validate(BundleSpec, values, str(folder / BUNDLE_FILE))
        return cls(folder, spec, n_cores() if n_threads is None else n_threads)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a request."""
        return self._encode.needs.columns

    def card(self) -> dict[str, Any]:
        """The model card."""
        card: dict[str, Any] = read_json(self.folder / CARD_FILE)
        return card

    def example(self) -> dict[str, Any]:
        """An example of a request."""
        example: dict[str, Any] = read_json(self.folder / EXAMPLE_FILE)
        return example

    def read(self, candidates: Any, user: Mapping[str, Any] | None = None) -> Request:
        """Reads a request: see `read_request`.

        Raises:
            InputError: when a column is missing, or there are no candidates.
        """
        return read_request(candidates, user, self.columns)

    def encode(self, request: Request) -> Encoded:
        """Encodes a request.

        Raises:
            InputError: for a value of a type or kind that its column cannot have.
        """
        return self._encode(request)

    def outputs(self, requests: Sequence[Encoded]) -> np.ndarray:
        """Returns what the only model of a bundle computes for the candidates of requests, end to end."""
        ((fit, model),) = self._models[0]
        return model.logits([self._encoders[fit.encoder](encoded) for encoded in requests])

    def natural_logits(self, requests: Sequence[Encoded]) -> np.ndarray:
        """Returns the float64 natural logits of the candidates of requests, end to end."""
        inputs = [[encoder(encoded) for encoded in requests] for encoder in self._encoders]
        by_member = []
        for fits in self._models:
            logits = [
                fit.calibrator.natural_logit(fit.link.logits(model.logits(inputs[fit.encoder])).natural)
                for fit, model in fits
            ]
            by_member.append(np.add.reduce(logits) / len(logits))
        stack = self.spec.stack
        natural = by_member[0] if stack is None else stack.natural_logit(np.stack(by_member, axis=1))
        return np.asarray(self.spec.calibrator.natural_logit(natural))

    def score(self, candidates: Any, user: Mapping[str, Any] | None = None) -> Scores:
        """Scores candidates.

        Args:
            candidates: an Arrow table, a data frame of pandas or polars, a list of dicts, or lists by column.
            user: values that all candidates share, by column; None if the candidates have all columns.

        Raises:
            InputError: for a missing column, or a value that cannot be read.
        """
        return Scores(self.natural_logits([self.encode(self.read(candidates, user))]), self.spec.log_pos_weight)


def _open(fit: FitSpec, folder: Path, encoder: SplitEncoder, vocabulary_of: dict[str, str], n_threads: int) -> Model:
    if not isinstance(fit.model, GraphSpec):
        return TreeModel(fit.model, folder, encoder, vocabulary_of, n_threads)
    kind = UserModel if fit.model.is_of_users else GraphModel
    return kind(fit.model, folder, encoder, vocabulary_of, n_threads)
