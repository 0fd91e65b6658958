"""Encodes resident rows as a batch on their device: the same batch as `recsys.data.encoder` makes on the host.

No step waits for the device: the number of tokens of a batch, which sizes its tensors, comes from the caller.

Shapes: n rows of the store, B rows of a batch, F categorical features, N dense columns, C columns of one transform,
T tokens of a sequence in all rows.
"""

from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torchrec import KeyedJaggedTensor

from recsys.data.batch import Batch
from recsys.data.resident.draws import as_fraction, mix
from recsys.data.resident.rows import ResidentRows
from recsys.data.rows import Rows
from recsys.data.split import Split, UnseenIds
from recsys.data.transforms import NumericTransformer, QuantileNormal
from recsys.data.vocabulary import MISSING_ID, RARE_ID


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
        self._transformer = _Transformer(encoder.transformer, device)
        self._indicators = torch.tensor(encoder.indicator_columns, dtype=torch.int64, device=device)
        measured = {name: column for column, name in enumerate(self._schema.measured)}
        self._steps = {
            feature.name: torch.tensor([measured[name] for name in feature.columns], device=device)
            for feature in self._schema.column_sequences
        }
        self._numbers: WeakKeyDictionary[Rows, Tensor] = WeakKeyDictionary()
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
            return (~self.rows.measured.index_select(0, row)[:, self._steps[sequence]].isnan()).sum(1)
        offsets, _ = self.rows.tokens[sequence]
        return offsets[row + 1] - offsets[row]

    def batch(self, row: Tensor, sequences: Sequence[str], n_tokens: Mapping[str, int]) -> Batch:
        """Returns the batch of [B] int64 row numbers.

        Args:
            row: row numbers on the device.
            sequences: sequence features to read.
            n_tokens: T of each of them.
        """
        measured = self._transformer(self.rows.measured.index_select(0, row))
        weight = None
        if self.rows.weight is not None and self._mean_weight is not None:
            weight = self.rows.weight.index_select(0, row) / self._mean_weight
        return Batch(
            dense=self._dense(row, measured),
            sparse=self._sparse(row),
            sequences=self._sequences(row, measured, sequences, n_tokens),
            label=self.rows.label.index_select(0, row),
            row=row,
            is_real=torch.ones(len(row), dtype=torch.bool, device=row.device),
            n_rows=len(row),
            weight=weight,
        )

    def _dense(self, row: Tensor, measured: Tensor) -> Tensor:
        numeric = measured[:, : self._encoder.n_numeric].nan_to_num(nan=0.0)
        parts = [numeric, measured.index_select(1, self._indicators).isnan().to(numeric.dtype)]
        if (extra := self._encoder.extra) is not None:
            assert self.rows.extra is not None
            values = self.rows.extra.index_select(0, row).double()
            parts.append(((values - extra.mean) / extra.std).float().unsqueeze(1))
        return torch.cat(parts, dim=1)

    def _sparse(self, row: Tensor) -> KeyedJaggedTensor:
        keys, n = list(self._schema.categorical), len(row)
        if not keys:
            return KeyedJaggedTensor.empty(torch.int32, lengths_dtype=torch.int32, device=row.device)
        codes_FB = self.rows.sparse.index_select(0, row).T
        if self._columns is not None:
            codes_FB = codes_FB.index_select(0, self._columns)
        ids_FB = self._ids[(codes_FB + self._starts_F1).long()]
        if self._unseen is not None and self._unseen.shares.any():
            ids_FB = self._replaced(ids_FB, row)
        n_ids = len(keys) * n
        return KeyedJaggedTensor(
            keys=keys,
            values=ids_FB.reshape(-1),
            lengths=torch.ones(n_ids, dtype=torch.int32, device=row.device),
            offsets=torch.arange(n_ids + 1, dtype=torch.int32, device=row.device),
            stride=n,
            length_per_key=[n] * len(keys),
            offset_per_key=[n * key for key in range(len(keys) + 1)],
        )

    def _replaced(self, ids_FB: Tensor, row: Tensor) -> Tensor:
        assert self._unseen is not None
        assert self._shares is not None
        feature_F1 = torch.arange(len(ids_FB), device=row.device).unsqueeze(1)
        draw_FB = as_fraction(mix(mix(row, self._unseen.seed) + feature_F1, 0))
        missing_F1, rare_F1 = self._shares.unsqueeze(2)
        ids_FB = ids_FB.masked_fill(draw_FB < missing_F1 + rare_F1, RARE_ID)
        return ids_FB.masked_fill(draw_FB < missing_F1, MISSING_ID)

    def _sequences(
        self, row: Tensor, measured: Tensor, names: Sequence[str], n_tokens: Mapping[str, int]
    ) -> KeyedJaggedTensor:
        if not names:
            return KeyedJaggedTensor.empty(torch.int32, lengths_dtype=torch.int32, device=row.device)
        parts = [
            self._present_steps(measured[:, self._steps[name]], n_tokens[name])
            if name in self._steps
            else self._tokens(row, name, number, n_tokens[name])
            for number, name in enumerate(names)
        ]
        ids, lengths, values = zip(*parts, strict=True)
        sizes = [n_tokens[name] for name in names]
        weights = [torch.ones(n, device=row.device) if v is None else v for v, n in zip(values, sizes, strict=True)]
        return KeyedJaggedTensor(
            keys=list(names),
            values=torch.cat(ids),
            lengths=torch.cat(lengths).int(),
            weights=torch.cat(weights) if any(value is not None for value in values) else None,
            stride=len(row),
            length_per_key=sizes,
            offset_per_key=np.cumsum([0, *sizes]).tolist(),
        )

    def _tokens(self, row: Tensor, name: str, number: int, n: int) -> tuple[Tensor, Tensor, None]:
        """Returns the [T] ids of a token sequence and its [B] lengths."""
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
        return ids, lengths, None

    @staticmethod
    def _present_steps(values_BS: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the [T] numbers of the steps that are not null, their [B] lengths and their [T] values."""
        is_present_BS = ~values_BS.isnan()
        is_present = is_present_BS.view(-1)
        place = torch.where(is_present, is_present.cumsum(0) - 1, n)  # the others share one place after the last
        step_BS = torch.arange(values_BS.shape[1], dtype=torch.int32, device=values_BS.device).expand_as(values_BS)
        steps = step_BS.new_empty(n + 1).scatter_(0, place, step_BS.reshape(-1))
        values = values_BS.new_empty(n + 1).scatter_(0, place, values_BS.reshape(-1))
        return steps[:n], is_present_BS.sum(1), values[:n]


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
        self._low_C1, self._high_C1 = torch.from_numpy(host.ends).to(device).T.unsqueeze(2)

    def __call__(self, values: Tensor) -> None:
        """Transforms the columns of [B, n_columns] float32 values in place."""
        if not len(self._columns):
            return
        x_CB = values.T.index_select(0, self._columns).double()
        interval_CB = torch.searchsorted(self._start, x_CB, right=True).sub_(1).clamp_(0, self._start.shape[1] - 1)
        offset_CB = torch.clamp(x_CB, self._low_C1, self._high_C1).sub_(self._start.gather(1, interval_CB))
        offset_CB.div_(self._width.gather(1, interval_CB)).mul_(self._rise.gather(1, interval_CB))
        normal_CB = offset_CB.add_(self._score.gather(1, interval_CB)).float()
        values.index_copy_(1, self._columns, normal_CB.T)
