"""Compares the scores of a bundle that was just written with those of its run, on prepared rows."""

from pathlib import Path

import numpy as np

from ranking.fitted import DeepFit
from ranking.scoring import EnsembleScorer, RunScorer, Scorer
from recsys.data.dataset import PreparedDataset
from recsys.data.store import EncodedRows
from recsys.errors import InputError
from serving.runtime.bundle import Bundle
from serving.runtime.encoder import Encoded, Needs
from serving.runtime.histories import Tokens
from serving.runtime.layout import BundleSpec

N_ROWS = 256
TOLERANCE = 1e-4
"""Largest difference in natural logit with fp32 weights; float32 sums in another order differ by a tenth of it."""


def sampled_rows(dataset: PreparedDataset) -> EncodedRows:
    """Evenly spaced rows of the data set."""
    return dataset.store.encoded(np.unique(np.linspace(0, dataset.n_rows - 1, N_ROWS).astype(np.int64)))


def reference_logits(scorer: Scorer, rows: EncodedRows) -> np.ndarray:
    """The run's own natural logits of rows, in fp32: graphs have no bfloat16, whose rounding is not part of a model.

    To be called before the graphs are written, which takes the tables out of the models.
    """
    runs = scorer.members if isinstance(scorer, EnsembleScorer) else [scorer]
    for run in runs:
        for fitted in run.fits if isinstance(run, RunScorer) else []:
            if isinstance(fitted.fit, DeepFit):
                fitted.fit.precision = "fp32"
    return scorer.natural_logit(rows)


def check_parity(expected: np.ndarray, rows: EncodedRows, folder: Path, spec: BundleSpec) -> float:
    """Returns the largest difference of the bundle's natural logits from the expected ones.

    Raises:
        InputError: when it is above the tolerance, for a bundle with fp32 weights.
    """
    bundle = Bundle(folder, spec, n_threads=1)
    logits = bundle.natural_logits([as_request(rows, spec, Needs.of(spec))])
    difference = float(np.max(np.abs(logits - expected)))
    if spec.weights == "fp32" and not difference <= TOLERANCE:
        raise InputError(
            f"the exported models differ from the run by {difference:.2g} in logit, at most {TOLERANCE:g} is accepted: "
            "the installed versions of torch and onnxruntime do not fit each other, change one of them"
        )
    return difference


def as_request(rows: EncodedRows, spec: BundleSpec, needs: Needs) -> Encoded:
    """Prepared rows as an encoded request whose candidates share nothing."""
    schema, n = spec.schema_, len(rows.sparse)
    tokens = {}
    for name in needs.sequences:
        offsets, codes = rows.tokens[name]
        tokens[name] = Tokens(codes, offsets, {}, np.zeros((n, 0), np.float32))
    return Encoded(
        n=n,
        codes=rows.sparse[:, [schema.categorical.index(name) for name in needs.categorical]],
        shared_values=np.zeros((1, 0), np.float32),
        shared_columns=(),
        values=rows.measured[:, [schema.measured.index(name) for name in needs.measured]],
        columns=tuple(range(len(needs.measured))),
        tokens=tokens,
        own=needs.columns,
    )
