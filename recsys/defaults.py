"""Settings that follow the size of the data: the value `auto`, and the rule behind each of them.

A setting that is `auto` is replaced by a number before a run is recorded: `config.yaml` and the first lines of the run
show it. The rules were chosen by experiments on data sets of 2,000 to a million rows; docs/defaults.md has the tables,
and `python -m benchmarks.defaults` makes them again.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, PlainSerializer, ValidatorFunctionWrapHandler, WrapValidator

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=BaseModel)

ENOUGH_CLICKS = 500
"""Monitored rows of the rarer class from which on a metric tells epochs apart."""
FEW_CLICKS = 2_000
"""Rows of the rarer class below which models are smaller."""
MANY_CLICKS = 10_000
"""Rows of the rarer class from which on FT-Transformer is larger."""
MIN_BATCH_SIZE = 64
"""Rows of an update below which it is slow and gains nothing."""
MIN_LEARNING_RATE, MAX_LEARNING_RATE = 3e-4, 1e-2
"""Bounds of the rule: beyond them AdamW learns too slowly, or diverges."""
EMBEDDING_L2 = 0.005
"""L2 penalty of the embeddings of click models: most rare ids have too few rows to learn more than their mean."""
AUTO: Any = "auto"
"""The value of a setting that follows the size of the data."""


def _keep_auto(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    return value if value == AUTO else validate(value)


Auto = Annotated[T, WrapValidator(_keep_auto), PlainSerializer(lambda value: value, return_type=Any)]
"""A setting of type T that may be `auto` in a config; it is a T once `filled`."""


def filled(config: ModelT, values: Mapping[str, Any]) -> ModelT:
    """Replaces the settings that are `auto` by values.

    Args:
        config: any settings.
        values: by name of a setting, what `auto` stands for.
    """
    chosen = {name: values[name] for name in type(config).model_fields if getattr(config, name) == AUTO}
    if not chosen:
        return config
    return type(config).model_validate({name: getattr(config, name) for name in type(config).model_fields} | chosen)


@dataclass(frozen=True)
class DataSize:
    """What the rules read of a model's fitting rows."""

    n_rows: int
    n_positive: int
    device: str = "cpu"
    """Type of the torch device."""

    @property
    def n_rarer(self) -> int:
        """Rows of the rarer class, which limit what can be learned."""
        return min(self.n_positive, self.n_rows - self.n_positive)


def min_count(n_rows: int) -> int:
    """Occurrences in the training rows that a value needs for an id of its own.

    In a small log nearly all values are rare, and together they say much; in a large one rare values cost memory alone.
    """
    return 2 if n_rows < 100_000 else 10


def batch_size(size: DataSize) -> int:
    """Rows of an update: 200 updates an epoch, so that small data is learned from at all.

    A batch needs about eight rows of the rarer class, or its gradient is noise. On a CPU more than 4,096 rows are no
    faster, on a GPU 16,384.
    """
    wanted = max(size.n_rows / 200, 8 * size.n_rows / max(1, size.n_rarer))
    return _power_of_two(wanted, MIN_BATCH_SIZE, 16_384 if size.device == "cuda" else 4096)


def eval_batch_size(size: DataSize) -> int:
    """Rows that are scored at once: as many as keep the device busy."""
    return 65_536 if size.device == "cuda" else 16_384


def epochs(size: DataSize) -> int:
    """Most passes over the rows: five to ten that make 2,000 updates, or one for every two rows of the rarer class.

    More rows than that are learned from in five passes; fewer of the rarer class are memorized within five. Where ten
    are better or no worse, early stopping tells which. 120 updates are made in any case, within ten passes: with fewer,
    a model of a few numeric columns is still near its start; with more than ten, it has memorized the few clicks that
    made the batch large.
    """
    n_steps = max(1, -(-size.n_rows // batch_size(size)))
    wanted, needed = round(min(2000, size.n_rarer / 2) / n_steps), round(120 / n_steps)
    return max(5, min(10, max(wanted, needed)))


def learning_rate(size: DataSize, chosen_batch_size: Any = AUTO) -> float:
    """Peak rate of AdamW: below a thousand rows of the rarer class a smaller one, which fits them less closely.

    A larger batch takes fewer steps: the rate follows its square root, both for a batch size other than the rule's and
    where few rows of the rarer class make the rule's larger than the least (Malladi et al., "On the SDEs and scaling
    rules for adaptive gradient algorithms", NeurIPS 2022).

    Args:
        size: the fitting rows.
        chosen_batch_size: the batch size of the config, or `auto`.
    """
    of_few_clicks = max(1 / 3, math.sqrt(size.n_rarer / 1000)) * math.sqrt(batch_size(size) / MIN_BATCH_SIZE)
    rate = 0.003 * min(1.0, of_few_clicks)
    if chosen_batch_size != AUTO:
        rate *= math.sqrt(min(chosen_batch_size, size.n_rows) / batch_size(size))
    return float(f"{min(MAX_LEARNING_RATE, max(MIN_LEARNING_RATE, rate)):.2g}")


def fused_from_rows(device: str) -> int:
    """Rows of a table from which on its optimizer is fused into the backward pass.

    AdamW learns better, but updates every row of a table in every step; a fused optimizer updates the rows of the batch
    alone. A GPU updates a million rows in the time of a small batch.
    """
    return 1_000_000 if device == "cuda" else 100_000


def patience(size: DataSize) -> int:
    """Epochs without improvement: more if few monitored rows of the rarer class let the metric move by chance.

    With fewer than a hundred, an epoch takes a second, and a slow start is easily taken for the end.
    """
    n_monitored = validation_fraction(size) * size.n_rarer
    return 2 if n_monitored >= ENOUGH_CLICKS else 3 if n_monitored >= 100 else 5


def validation_fraction(size: DataSize) -> float:
    """Share of the fitting rows that early stopping monitors: 500 rows of the rarer class, within 5 to 10 %.

    More than a tenth costs small data more than the better choice of the epoch gains.
    """
    return min(0.1, max(0.05, ENOUGH_CLICKS / max(1, size.n_rarer)))


def hidden_dims(size: DataSize) -> tuple[int, ...]:
    """Widths of the MLP of DCN V2 and xDeepFM: the plan's from 2,000 rows of the rarer class on, else smaller ones."""
    return (256, 128, 64) if size.n_rarer >= FEW_CLICKS else (64, 32)


def cin_dims(size: DataSize) -> tuple[int, ...]:
    """Feature maps of xDeepFM's interaction network, by the same rule."""
    return (128, 128) if size.n_rarer >= FEW_CLICKS else (32, 32)


def linear_part(size: DataSize) -> bool:
    """Whether a network's logit is mixed with that of a logistic regression: as long as fitting one takes seconds.

    A network memorizes ids with few rows, of which a linear model with a penalty learns what is to be learned; with
    millions of rows there is little left of that.
    """
    return size.n_rows <= 1_000_000


@dataclass(frozen=True)
class SharePrior:
    """Normal prior of the share that the linear part has in a logit."""

    mean: float
    std: float


def share_prior(size: DataSize) -> SharePrior:
    """About one half, for the monitored rows to decide; larger and firmer below 500 rows of the rarer class.

    From so few a network learns less than a regression with penalties, and the dozen among them that are monitored
    tell neither which of the two is better nor when the network should stop.
    """
    doubt = min(1.0, math.sqrt(max(1, size.n_rarer) / ENOUGH_CLICKS))
    return SharePrior(mean=1 - doubt / 2, std=doubt / 4)


@dataclass(frozen=True)
class FTTransformerSize:
    """Size of FT-Transformer."""

    d_model: int
    n_layers: int
    n_heads: int
    numeric_tokens: str
    readout: str
    hidden_dims: tuple[int, ...]
    embedding_init_std: float | None
    norm: Literal["layer", "none"]


def ft_transformer(size: DataSize) -> FTTransformerSize:
    """The plan's size on a GPU with a million rows or more; elsewhere a small one, which learns faster and better.

    Below a million rows an MLP over all last states learns more than the state of [CLS] alone, and linear tokens more
    than Fourier tokens of quantile-normal columns. The smallest has no layer normalization, which enlarges the small
    embeddings of ids with few rows, and so undoes what small initial values and the L2 penalty are for. Below 500 rows
    of the rarer class it has, or it would learn too slowly at the rates that suit so few.
    """
    if size.device == "cuda" and size.n_rows >= 1_000_000:
        return FTTransformerSize(256, 4, 8, "fourier", "cls", (), None, "layer")
    if size.n_rarer >= MANY_CLICKS:
        return FTTransformerSize(32, 2, 4, "linear", "tokens", (128, 64), 0.1, "layer")
    return FTTransformerSize(
        16, 1, 2, "linear", "tokens", (64,), 0.1, "none" if size.n_rarer >= ENOUGH_CLICKS else "layer"
    )


@dataclass(frozen=True)
class TreeSize:
    """Size of LightGBM's trees."""

    n_trees: int
    learning_rate: float
    num_leaves: int
    min_data_in_leaf: int


def trees(size: DataSize) -> TreeSize:
    """Trees of about as many leaves as the rarer class can fill."""
    return TreeSize(
        n_trees=2000,
        learning_rate=0.05 if size.n_rows >= 10_000 else 0.03,
        num_leaves=_power_of_two(size.n_rarer / 200, 8, 64) - 1,
        min_data_in_leaf=max(20, min(500, size.n_rows // 400)),
    )


def patience_trees(size: DataSize) -> int:
    """Trees without improvement before growth stops."""
    return 100


def _power_of_two(value: float, low: int, high: int) -> int:
    """The power of two nearest to a value on the logarithmic scale, within bounds."""
    return max(low, min(high, 2 ** round(math.log2(max(1.0, value)))))
