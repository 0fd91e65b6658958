"""Writes a bundle: everything that a score is computed from, in one folder that needs no torch."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from ranking.fitted import DeepFit, FittedModel, TreeFit
from ranking.scoring import EnsembleScorer, RunScorer, Scorer
from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.evaluation.calibration.calibrator import Calibrator
from recsys.schema.feature_selection import FeatureConfig
from recsys.system.files import begin_folder, finish_folder, partial_folder, removed_if_refused, write_json
from serving.export.encoders import write_encoder, write_vocabularies
from serving.export.example import example_request
from serving.export.graphs.ranking_models import write_graph
from serving.export.parity import check_parity, reference_logits, sampled_rows
from serving.export.retrieval import ExportedRetrieval, write_retrieval
from serving.runtime.encoder import Needs
from serving.runtime.layout import (
    BUNDLE_FILE,
    CARD_FILE,
    EXAMPLE_FILE,
    FORMAT_VERSION,
    MODELS,
    BundleSpec,
    EncoderSpec,
    FitSpec,
    MemberSpec,
    NumberType,
    TreesSpec,
    VocabularySpec,
)


@dataclass(frozen=True)
class ExportOptions:
    """What a user chooses."""

    weights: NumberType = "fp32"
    pt2: bool = False
    """Whether to write graphs as programs of torch.export beside the ONNX graphs."""
    scale: Literal["natural", "balanced"] = "natural"
    """The scale of the score in answers."""


def check_exportable(scorer: Scorer, dataset: PreparedDataset) -> None:
    """Raises InputError for a run whose inputs a request cannot have."""
    schema = dataset.manifest.schema_
    if scorer.reads_retrieval_score:
        raise InputError(
            "the run reads the scores of a retrieval run, which a request does not have: export a run without them"
        )
    for name, columns in schema.crosses.items():
        if name in scorer.categorical and (logs := [column for column in columns if column in schema.logs]):
            raise InputError(
                f"schema.crosses.{name} reads {logs[0]!r}, which is built from the log: train the run with "
                f"features.leave_out=[{name}]"
            )


def write_bundle(
    scorer: Scorer,
    dataset: PreparedDataset,
    out: Path,
    name: str,
    options: ExportOptions,
    card: dict[str, Any],
    retrieval: ExportedRetrieval | None = None,
) -> float:
    """Writes a bundle, under a temporary name until it is complete.

    Args:
        scorer: the loaded run or ensemble.
        dataset: the data set that it was trained on.
        out: the folder to write.
        name: the name of the run.
        options: what the user chose.
        card: the model card, to which the parity is added.
        retrieval: the run that retrieves candidates, if any.

    Returns:
        The largest difference in natural logit from the run's own scores of prepared rows.

    Raises:
        InputError: for a run that cannot be exported.
    """
    check_exportable(scorer, dataset)
    rows = sampled_rows(dataset)
    expected = reference_logits(scorer, rows)
    with removed_if_refused(partial_folder(out)):
        folder = begin_folder(out)
        (folder / MODELS).mkdir()
        spec = _write_models(scorer, dataset, folder, name, options)
        write_json(folder / BUNDLE_FILE, spec.model_dump(mode="json", by_alias=True))
        write_json(folder / EXAMPLE_FILE, example_request(dataset, Needs.of(spec).columns))
        difference = check_parity(expected, rows, folder, spec)
        parity = {"rows": len(expected), "max_logit_difference": difference, "weights": options.weights}
        if retrieval is not None:
            parity["max_vector_difference"] = write_retrieval(retrieval, folder, spec)
            card = card | {"retrieval": {"run": retrieval.folder.name, "items": len(retrieval.catalog)}}
        write_json(folder / CARD_FILE, card | {"parity_with_the_run": parity})
        finish_folder(out)
    return difference


def _write_models(
    scorer: Scorer, dataset: PreparedDataset, folder: Path, name: str, options: ExportOptions
) -> BundleSpec:
    encoders = _Encoders(folder)
    if isinstance(scorer, EnsembleScorer):
        runs = dict(zip(scorer.stack.members, scorer.members, strict=True))
        stack, calibrator = scorer.stack, scorer.calibrator
    else:
        assert isinstance(scorer, RunScorer)
        runs, stack, calibrator = {name: scorer}, None, Calibrator()
    members = []
    for number, (member, run) in enumerate(runs.items()):
        prefix = f"{MODELS}/{number}_{quote(member, safe='')}"
        fits = tuple(_write_fit(fitted, encoders, folder, prefix, options) for fitted in run.fits)
        members.append(MemberSpec(name=member, fits=fits))
    manifest = dataset.manifest
    spec = BundleSpec(
        format_version=FORMAT_VERSION,
        name=name,
        data=manifest.fingerprint,
        schema_=manifest.schema_,
        kinds=manifest.kinds,
        weights=options.weights,
        vocabularies={},
        encoders=tuple(encoders.specs),
        members=tuple(members),
        stack=stack,
        calibrator=calibrator,
        log_pos_weight=scorer.log_pos_weight,
        scale=options.scale,
    )
    return spec.model_copy(update={"vocabularies": _vocabularies(spec, dataset, folder)})


def _vocabularies(spec: BundleSpec, dataset: PreparedDataset, folder: Path) -> dict[str, VocabularySpec]:
    """Writes the vocabularies that the models read."""
    needs, schema = Needs.of(spec), spec.schema_
    read = {*needs.categorical, *(s.vocabulary for s in schema.token_sequences if s.name in needs.sequences)}
    return write_vocabularies(dataset, [name for name in dataset.vocabularies if name in read], folder)


class _Encoders:
    """The encoders of a bundle; fits of one split with the same features share theirs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys: list[tuple[str, FeatureConfig]] = []
        self.specs: list[EncoderSpec] = []

    def number_of(self, fitted: FittedModel) -> int:
        """The position of the encoder of a fit, which is written if it is new."""
        key = (fitted.split.name, fitted.features)
        if key not in self._keys:
            name = f"{len(self._keys)}_{fitted.split.name}"
            self.specs.append(write_encoder(fitted.split.encoder, name, self._folder))
            self._keys.append(key)
        return self._keys.index(key)


def _write_fit(fitted: FittedModel, encoders: _Encoders, folder: Path, prefix: str, options: ExportOptions) -> FitSpec:
    path = f"{prefix}.{fitted.name}"
    if isinstance(fitted.fit, TreeFit):
        file = f"{path}{fitted.fit.path.suffix}"
        shutil.copyfile(fitted.fit.path, folder / file)
        model: Any = TreesSpec(kind=fitted.fit.library, file=file)
    else:
        assert isinstance(fitted.fit, DeepFit)
        model = write_graph(fitted.fit.model, fitted.split.schema, folder, path, options.weights, options.pt2)
    return FitSpec(
        name=fitted.name,
        encoder=encoders.number_of(fitted),
        link=fitted.link,
        calibrator=fitted.calibrator,
        model=model,
    )
