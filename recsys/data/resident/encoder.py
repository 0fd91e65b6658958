"""Encodes resident rows as a batch on their device: the same batch as `recsys.data.encoder` makes on the host.

No step waits for the device: the number of tokens of a batch, which sizes its tensors, comes from the caller.

Shapes: n rows of the store, B rows of a batch, R rows of several batches, F categorical features, C columns of one
transform, T tokens of a sequence in all rows.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torchrec import KeyedJaggedTensor

from recsys.data.batch import Batch
from recsys.data.resident.draws import as_fraction, mix
from recsys.data.resident.encodings import ResidentEncodings
from recsys.data.resident.rows import ResidentRows
from recsys.data.rows import Rows
from recsys.data.split import Split, UnseenIds
from recsys.data.transforms import NumericTransformer, QuantileNormal
from recsys.data.vocabulary import MISSING_ID, RARE_ID

try:
    from recsys.data.resident import kernels
except ImportError:  # Triton comes with torch's builds for GPUs
    kernels = None  # type: ignore[assignment]


class ResidentBatches:
    """Makes batches of resident rows.

    Args:
        split: encodes the rows.
        rows: all rows of the split's store.
        unseen: replaces some ids, for training; None replaces none.
    """

    def __init__(self, split: Split, rows: ResidentRows, unseen: UnseenIds | None = None) -> None:
        self.rows = rows
        self._schema, self._encoder, self._mean_weight = split.schema, split.encoder, split.prior.mean_weight
        self._unseen = unseen
        encoder, device = split.encoder, rows.device
        self._ids = torch.from_numpy(encoder.ids).to(device)
        columns = encoder.sparse_columns
        is_every_column = len(columns) == rows.sparse.shape[1] and bool((columns == np.arange(len(columns))).all())
        self._columns = None if is_every_column else torch.from_numpy(columns).to(device)
        self._starts_F1 = torch.from_numpy(encoder.sparse_start.astype(np.int32)).to(device).unsqueeze(1)
        read = torch.from_numpy(encoder.measured_columns).to(device)
        self._measured_columns = None if encoder.reads_all_measured else read
        self._transformer = _Transformer(encoder.transformer, device)
        self._encodings = ResidentEncodings(encoder, split.store, rows)
        self._indicators = torch.tensor(encoder.indicator_columns, dtype=torch.int64, device=device)
        measured = {name: column for column, name in enumerate(self._schema.measured)}
        self._steps = {
            feature.name: torch.tensor([measured[name] for name in feature.columns], device=device)
            for feature in self._schema.column_sequences
        }
        self._stored_steps = {name: read[columns] for name, columns in self._steps.items()}
        self._numbers: WeakKeyDictionary[Rows, Tensor] = WeakKeyDictionary()
        self._constants: dict[tuple[str, int], Tensor] = {}
        self._shares = None if unseen is None else torch.from_numpy(unseen.shares).to(device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # other streams read them

    def numbers(self, rows: Rows) -> Tensor:
        """Returns the [n] int64 row numbers of a set of rows on the device; the first call computes them."""
        if rows not in self._numbers:
            self._numbers[rows] = torch.from_numpy(rows.numbers()).to(self.rows.device)
        return self._numbers[rows]

    def lengths(self, row: Tensor, sequence: str) -> Tensor:
        """Returns the [B] int64 lengths of a sequence of [B] rows."""
        if sequence in self._steps:
            return (~self.rows.measured.index_select(0, row)[:, self._stored_steps[sequence]].isnan()).sum(1)
        offsets, _ = self.rows.tokens[sequence]
        return offsets[row + 1] - offsets[row]

    def batches(
        self, row: Tensor, sizes: Sequence[int], sequences: Sequence[str], n_tokens: Sequence[Mapping[str, int]]
    ) -> Iterator[Batch]:
        """Yields the batches of consecutive rows; encoding several batches at once starts few kernels for each.

        Args:
            row: [R] int64 row numbers on the device, batch after batch.
            sizes: rows of each batch.
            sequences: sequence features to read.
            n_tokens: for each batch, its tokens of each of them.
        """
        ends = list(itertools.accumulate(sizes))
        measured = self.rows.measured.index_select(0, row)
        if self._measured_columns is not None:
            measured = measured.index_select(1, self._measured_columns)
        measured = self._transformer(measured)
        dense, label, weight = self._dense(row, measured), self.rows.label.index_select(0, row), self._weights(row)
        ids_FR = self._sparse_ids(row)
        totals = {name: sum(of_batch[name] for of_batch in n_tokens) for name in sequences}
        parts = {
            name: self._present_steps(measured[:, self._steps[name]], totals[name])
            if name in self._steps
            else self._tokens(row, name, number, totals[name])
            for number, name in enumerate(sequences)
        }
        starts = dict.fromkeys(sequences, 0)
        for end, size, of_batch in zip(ends, sizes, n_tokens, strict=True):
            place = slice(end - size, end)
            yield Batch(
                dense=dense[place],
                sparse=self._sparse(ids_FR[:, place]),
                sequences=self._sequences(parts, starts, of_batch, place),
                label=label[place],
                row=row[place],
                is_real=self._constant("real", size, lambda n: torch.ones(n, dtype=torch.bool, device=row.device)),
                n_rows=size,
                weight=None if weight is None else weight[place],
            )
            starts = {name: start + of_batch[name] for name, start in starts.items()}

    def _constant(self, name: str, n: int, make: Callable[[int], Tensor]) -> Tensor:
        """A tensor that is the same in every batch of n rows or ids."""
        if (name, n) not in self._constants:
            self._constants[name, n] = make(n)
        return self._constants[name, n]

    def _weights(self, row: Tensor) -> Tensor | None:
        if self.rows.weight is None or self._mean_weight is None:
            return None
        return self.rows.weight.index_select(0, row) / self._mean_weight

    def _dense(self, row: Tensor, measured: Tensor) -> Tensor:
        numeric = measured[:, : self._encoder.n_numeric].nan_to_num(nan=0.0)
        parts = [numeric, measured.index_select(1, self._indicators).isnan().to(numeric.dtype)]
        parts += self._encodings(row)
        if (extra := self._encoder.extra) is not None:
            assert self.rows.extra is not None
            values = self.rows.extra.index_select(0, row).double()
            parts.append(((values - extra.mean) / extra.std).float().unsqueeze(1))
        return torch.cat(parts, dim=1)

    def _sparse_ids(self, row: Tensor) -> Tensor:
        """Returns [F, R] int32 ids."""
        codes_FR = self.rows.sparse.index_select(0, row).T
        if self._columns is not None:
            codes_FR = codes_FR.index_select(0, self._columns)
        ids_FR = self._ids[(codes_FR + self._starts_F1).long()]
        if self._unseen is None or not self._unseen.shares.any():
            return ids_FR
        assert self._shares is not None
        feature_F1 = torch.arange(len(ids_FR), device=row.device).unsqueeze(1)
        draw_FR = as_fraction(mix(mix(row, self._unseen.seed) + feature_F1, 0))
        missing_F1, rare_F1 = self._shares.unsqueeze(2)
        ids_FR = ids_FR.masked_fill(draw_FR < missing_F1 + rare_F1, RARE_ID)
        return ids_FR.masked_fill(draw_FR < missing_F1, MISSING_ID)

    def _sparse(self, ids_FB: Tensor) -> KeyedJaggedTensor:
        keys, n, device = list(self._schema.categorical), ids_FB.shape[1], ids_FB.device
        if not keys:
            return KeyedJaggedTensor.empty(torch.int32, lengths_dtype=torch.int32, device=device)
        n_ids = len(keys) * n
        return KeyedJaggedTensor(
            keys=keys,
            values=ids_FB.reshape(-1),
            lengths=self._constant("lengths", n_ids, lambda n: torch.ones(n, dtype=torch.int32, device=device)),
            offsets=self._constant("offsets", n_ids, lambda n: torch.arange(n + 1, dtype=torch.int32, device=device)),
            stride=n,
            length_per_key=[n] * len(keys),
            offset_per_key=[n * key for key in range(len(keys) + 1)],
        )

    def _sequences(
        self, parts: Mapping[str, "_Part"], starts: Mapping[str, int], n_tokens: Mapping[str, int], place: slice
    ) -> KeyedJaggedTensor:
        """Returns the sequences of the rows at a place, whose tokens begin at `starts`."""
        device = self.rows.device
        if not parts:
            return KeyedJaggedTensor.empty(torch.int32, lengths_dtype=torch.int32, device=device)
        tokens = {name: slice(start, start + n_tokens[name]) for name, start in starts.items()}
        has_values = any(part.values is not None for part in parts.values())
        weights = [
            torch.ones(n_tokens[name], device=device) if part.values is None else part.values[tokens[name]]
            for name, part in parts.items()
            if has_values
        ]
        sizes = [n_tokens[name] for name in parts]
        return KeyedJaggedTensor(
            keys=list(parts),
            values=torch.cat([part.ids[tokens[name]] for name, part in parts.items()]),
            lengths=torch.cat([part.lengths[place] for part in parts.values()]),
            weights=torch.cat(weights) if has_values else None,
            stride=place.stop - place.start,
            length_per_key=sizes,
            offset_per_key=[0, *itertools.accumulate(sizes)],
        )

    def _tokens(self, row: Tensor, name: str, number: int, n: int) -> "_Part":
        """Reads a token sequence, number `number` of the batch, with n tokens in all rows."""
        offsets, codes = self.rows.tokens[name]
        start = offsets.index_select(0, row)
        lengths = offsets.index_select(0, row + 1) - start
        first = lengths.cumsum(0) - lengths
        owner = torch.repeat_interleave(torch.arange(len(row), device=row.device), lengths, output_size=n)
        position = torch.arange(n, device=row.device) - first.index_select(0, owner)
        token = codes.index_select(0, start.index_select(0, owner) + position)
        ids = self._ids.index_select(0, (token + self._encoder.token_start[name]).long())
        share = 0.0 if self._unseen is None else self._unseen.token_shares.get(name, 0.0)
        if share:
            assert self._unseen is not None
            draw = as_fraction(mix(mix(row, self._unseen.seed).index_select(0, owner) + position, number))
            ids = ids.masked_fill(draw < share, RARE_ID)
        return _Part(ids, lengths.int(), None)

    @staticmethod
    def _present_steps(values_RS: Tensor, n: int) -> "_Part":
        """Reads the steps of a group of columns that are not null, n in all rows."""
        is_present_RS = ~values_RS.isnan()
        is_present = is_present_RS.view(-1)
        place = torch.where(is_present, is_present.cumsum(0) - 1, n)  # the others share one place after the last
        step_RS = torch.arange(values_RS.shape[1], dtype=torch.int32, device=values_RS.device).expand_as(values_RS)
        steps = step_RS.new_empty(n + 1).scatter_(0, place, step_RS.reshape(-1))
        values = values_RS.new_empty(n + 1).scatter_(0, place, values_RS.reshape(-1))
        return _Part(steps[:n], is_present_RS.sum(1, dtype=torch.int32), values[:n])


@dataclass(frozen=True)
class _Part:
    """A sequence of some rows."""

    ids: Tensor
    """[T] int32, row after row."""
    lengths: Tensor
    """[R] int32."""
    values: Tensor | None
    """[T] values of steps; None for tokens."""


class _Transformer:
    """`NumericTransformer` on a device."""

    def __init__(self, host: NumericTransformer, device: torch.device) -> None:
        self._low, self._high, self._mean, self._inv_std = (
            torch.from_numpy(values).to(device) for values in (host.low, host.high, host.mean, host.inv_std)
        )
        self._log_columns = torch.tensor(host.log_columns, dtype=torch.int64, device=device)
        self._to_normal = _QuantileNormal(host.to_normal, device)

    def __call__(self, values: Tensor) -> Tensor:
        """Transforms [B, n_columns] float32 raw values; NaN stays NaN."""
        values = torch.clamp(values, self._low, self._high)
        if len(self._log_columns):
            raw = values[:, self._log_columns]
            values[:, self._log_columns] = raw.sign() * raw.abs().log1p()
        self._to_normal(values)
        return values.sub_(self._mean).mul_(self._inv_std)


class _QuantileNormal:
    """`QuantileNormal` on a device; float64 as there, because a narrow interval magnifies rounding errors."""

    def __init__(self, host: QuantileNormal, device: torch.device) -> None:
        self._columns = torch.from_numpy(host.columns).to(device)
        self._start, self._width, self._score, self._rise = (
            torch.from_numpy(table).to(device) for table in (host.start, host.width, host.score, host.rise)
        )
        self._ends = torch.from_numpy(host.ends).to(device)
        self._low_C1, self._high_C1 = self._ends.T.unsqueeze(2)

    def __call__(self, values: Tensor) -> None:
        """Transforms the columns of [B, n_columns] float32 values in place."""
        if not len(self._columns):
            return
        if kernels is not None and values.device.type == "cuda":
            tables = (self._start, self._width, self._score, self._rise, self._ends)
            kernels.interpolate(values, self._columns, *tables)
            return
        x_CB = values.T.index_select(0, self._columns).double()
        interval_CB = torch.searchsorted(self._start, x_CB, right=True).sub_(1).clamp_(0, self._start.shape[1] - 1)
        offset_CB = torch.clamp(x_CB, self._low_C1, self._high_C1).sub_(self._start.gather(1, interval_CB))
        offset_CB.div_(self._width.gather(1, interval_CB)).mul_(self._rise.gather(1, interval_CB))
        normal_CB = offset_CB.add_(self._score.gather(1, interval_CB)).float()
        values.index_copy_(1, self._columns, normal_CB.T)
