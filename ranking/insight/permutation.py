"""Scores held-out rows in which some features come from other rows: permutation importance.

The features of a row are replaced by those of a random row of the same fold, and the row is scored by the fold's own
models. Source: Breiman, "Random forests", Machine Learning 2001, section 10; on held-out rows by Fisher, Rudin and
Dominici, "All models are wrong, but many are useful", JMLR 2019, section 3.

Shapes: B rows of a block.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ranking.insight.feature_sets import FeatureSet
from ranking.scoring import Scorer, score_blocks
from recsys.data.dataset import PreparedDataset
from recsys.data.encodings.tokens import encoded_sequences
from recsys.data.groups import FULL
from recsys.data.jagged import gather_indices, offsets_of
from recsys.data.store import EncodedRows
from recsys.errors import InputError
from recsys.evaluation.logits import Logits
from recsys.runs.predictions import Predictions, RunPredictions
from recsys.schema.resolved import Schema

_BLOCK_ROWS = 16_384


@dataclass(frozen=True)
class HeldOut:
    """Rows of one split that its models were not fitted to."""

    split: str
    number: int
    """Position of the split among those of the run."""
    numbers: np.ndarray
    """[n] row numbers in the data set, in rising order."""


def held_out_rows(dataset: PreparedDataset, splits: Sequence[str], n_rows: int, seed: int) -> list[HeldOut]:
    """The rows that each split reports on, or a random sample of them with the same share of every split.

    Args:
        dataset: the prepared data set.
        splits: names of splits.
        n_rows: the largest number of rows, over all splits.
        seed: seed of the sample.

    Raises:
        InputError: if no split has labeled rows that it was not fitted to.
    """
    found = []
    for number, name in enumerate(splits):
        split = dataset.split(name)
        reported = list(split.evaluation_rows.values())[-1:] if name == FULL else [split.held_out_rows]
        found += [HeldOut(name, number, np.sort(rows.numbers())) for rows in reported if len(rows)]
    total = sum(len(rows.numbers) for rows in found)
    if total == 0:
        raise InputError(
            f"{dataset.folder} has no labeled rows that models of the splits {', '.join(splits)} were not fitted to: "
            "pass a run with folds, forward windows or a holdout"
        )
    if total <= n_rows:
        return found
    sampled = []
    for rows in found:
        n = max(1, round(n_rows * len(rows.numbers) / total))
        drawn = np.random.default_rng([seed, rows.number]).choice(len(rows.numbers), n, replace=False)
        sampled.append(replace(rows, numbers=rows.numbers[np.sort(drawn)]))
    return sampled


def permuted_rows(
    rows: EncodedRows, positions: np.ndarray, order: np.ndarray, features: FeatureSet | None, schema: Schema
) -> EncodedRows:
    """Selects rows whose features of a set are those of other rows.

    Args:
        rows: [n] rows.
        positions: [B] the rows to select.
        order: [n] the row that the features of each row are taken from.
        features: the features to permute; None for none.
        schema: schema of the rows.
    """
    features = features or FeatureSet("", ())
    source = order[positions]

    def with_columns(values: np.ndarray, names: Sequence[str], permuted: frozenset[str]) -> np.ndarray:
        selected, columns = values[positions], [index for index, name in enumerate(names) if name in permuted]
        if columns:
            selected[:, columns] = values[np.ix_(source, columns)]
        return selected

    def tokens_of(name: str, permuted: frozenset[str]) -> tuple[np.ndarray, np.ndarray]:
        (offsets, codes), index = rows.tokens[name], source if name in permuted else positions
        lengths = np.diff(offsets)[index]
        return offsets_of(lengths), codes[gather_indices(offsets[:-1][index], lengths)]

    tokens = {name: tokens_of(name, features.tokens) for name in rows.tokens}
    encoded = [sequence.name for sequence in encoded_sequences(schema)]
    is_same = features.tokens.intersection(encoded) == features.encoded.intersection(encoded)
    numbers = None if rows.numbers is None else rows.numbers[source if features.has_retrieval_score else positions]
    return EncodedRows(
        sparse=with_columns(rows.sparse, schema.categorical, features.categorical),
        measured=with_columns(rows.measured, schema.measured, features.measured),
        sequence_lengths=rows.sequence_lengths[positions],
        tokens=tokens,
        numbers=numbers,
        encoded_codes=with_columns(rows.sparse, schema.categorical, features.encoded),
        encoded_tokens=None if is_same else {name: tokens_of(name, features.encoded) for name in encoded},
    )


class HeldOutScorer:
    """Scores held-out rows, each by the models of its own split; the calibration of a whole run is left out.

    Args:
        scorer: the models of all splits.
        dataset: the prepared data set.
        folds: the held-out rows of each split.
        seed: seed of the permutations.
    """

    def __init__(self, scorer: Scorer, dataset: PreparedDataset, folds: Sequence[HeldOut], seed: int) -> None:
        self._dataset, self._folds, self._seed = dataset, folds, seed
        self._scorers = [scorer.of_split(fold.split) for fold in folds]
        self._rows = [dataset.store.encoded(fold.numbers) for fold in folds]

    def logits(
        self, features: FeatureSet | None = None, repeat: int = 0, on_rows: Callable[[int], None] = lambda n: None
    ) -> Logits:
        """Returns the logits of all rows, fold after fold.

        A permutation depends on the seed, the fold and the repeat alone: all features get values of the same rows.

        Args:
            features: the features to permute; None for none.
            repeat: number of the permutation.
            on_rows: called with the number of rows of each scored block.
        """
        schema, rate = self._dataset.manifest.schema_, self._dataset.stats.sampling_rate or 1.0
        parts = []
        for fold, scorer, rows in zip(self._folds, self._scorers, self._rows, strict=True):
            n, natural = len(fold.numbers), []
            order = np.random.default_rng([self._seed, repeat, fold.number]).permutation(n)
            blocks = (np.arange(start, min(start + _BLOCK_ROWS, n)) for start in range(0, n, _BLOCK_ROWS))
            encode = partial(permuted_rows, rows, order=order, features=features, schema=schema)
            for positions, logit in score_blocks(scorer, blocks, encode):
                natural.append(logit)
                on_rows(len(positions))
            parts.append(Logits.of_one_fit(np.concatenate(natural), scorer.log_pos_weight, float(np.log(rate))))
        return Logits.join(parts)

    def predictions(self, name: str, logits: Logits) -> RunPredictions:
        """The rows with their labels, weights, users and days, and predictions of them."""
        store, numbers = self._dataset.store, np.concatenate([fold.numbers for fold in self._folds])
        labels, weights = store.labels(numbers), store.weights(numbers)
        users, days = store.users(numbers), store.days(numbers)
        return RunPredictions(
            store.row_ids(numbers), Predictions.of_fold(name, numbers, labels, logits, weights, users, days)
        )
