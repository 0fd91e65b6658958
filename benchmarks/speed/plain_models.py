"""The deep models in straightforward PyTorch: an nn.Embedding per column, padded sequences, float32.

Shapes: B rows of a batch, F fields, N numeric columns, L padded events, H feature maps, D width.
"""

import torch
from torch import Tensor, nn

from ranking.dcnv2 import DCNv2Config
from ranking.din import DINConfig
from ranking.ft_transformer import FTTransformerConfig
from ranking.model_config import DeepModelConfig
from ranking.xdeepfm import XDeepFMConfig
from recsys.schema.resolved import Schema


def plain_model(config: DeepModelConfig, schema: Schema) -> nn.Module:
    """Builds the plain counterpart of a model of `ranking.models.build_model`.

    Its forward takes [B, F] ids, [B, N] dense values, and for each sequence [B, L] ids from 1 on, padded with 0, and
    [B, L] values.
    """
    match config:
        case DCNv2Config():
            return PlainDCNv2(config, schema)
        case XDeepFMConfig():
            return PlainXDeepFM(config, schema)
        case FTTransformerConfig():
            return PlainFTTransformer(config, schema)
        case DINConfig():
            return PlainDIN(config, schema)
    raise ValueError(f"{config.name} has no plain counterpart: use dcnv2, xdeepfm, ft_transformer or din")


def start_tables(module: nn.Module, std: float) -> None:
    """Initializes all embeddings of a module from N(0, std²); padding embeddings are zero."""
    for table in module.modules():
        if isinstance(table, nn.Embedding):
            with torch.no_grad():
                table.weight.normal_(std=std)
                if table.padding_idx is not None:
                    table.weight[table.padding_idx] = 0


class Fields(nn.Module):
    """An embedding per categorical feature and per mean-pooled token sequence."""

    def __init__(self, schema: Schema, dim: int, std: float, pools: bool = True) -> None:
        super().__init__()
        sizes = schema.num_embeddings
        self.embeddings = nn.ModuleList(nn.Embedding(sizes[name], dim) for name in schema.categorical)
        tokens = [sizes[s.vocabulary] + 1 for s in schema.token_sequences] if pools else []
        self.tokens = nn.ModuleList(nn.Embedding(n, dim, padding_idx=0) for n in tokens)
        start_tables(self, std)

    def __len__(self) -> int:
        return len(self.embeddings) + len(self.tokens)

    def forward(self, ids: Tensor, *sequences: Tensor) -> Tensor:
        """[B, F, D] embeddings."""
        embeddings = [table(ids[:, number]) for number, table in enumerate(self.embeddings)]
        for table, sequence in zip(self.tokens, sequences[::2], strict=True):
            n_events = (sequence > 0).sum(dim=1, keepdim=True).clamp(min=1)
            embeddings.append(table(sequence).sum(dim=1) / n_events)
        return torch.stack(embeddings, dim=1)


class Dice(nn.Module):
    """p x + (1 - p) a x, where p is the sigmoid of the standardized x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.slope = nn.BatchNorm1d(width, affine=False), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to the same shape."""
        p = torch.sigmoid(self.norm(x.flatten(0, -2))).view_as(x)
        return p * x + (1 - p) * self.slope * x


def mlp(d_in: int, dims: tuple[int, ...], dropout: float, batch_norm: bool, activation: str = "relu") -> nn.Sequential:
    """Layers of Linear, optional batch norm, activation and dropout."""
    layers: list[nn.Module] = []
    for d, d_out in zip([d_in, *dims], dims, strict=False):
        activation_layer = {"relu": nn.ReLU, "prelu": lambda d=d_out: nn.PReLU(d), "dice": lambda d=d_out: Dice(d)}[
            activation
        ]
        layers += [
            nn.Linear(d, d_out),
            *([nn.BatchNorm1d(d_out)] if batch_norm else []),
            activation_layer(),
            nn.Dropout(dropout),
        ]
    return nn.Sequential(*layers)


class PlainDCNv2(nn.Module):
    """Cross layers in parallel with an MLP."""

    def __init__(self, config: DCNv2Config, schema: Schema) -> None:
        super().__init__()
        self.fields = Fields(schema, config.embedding_dim, config.embedding_init_std, config.pool_sequences)
        width = len(self.fields) * config.embedding_dim + len(schema.dense)
        self.cross = nn.ModuleList(nn.Linear(width, width) for _ in range(config.cross_depth))
        self.mlp = mlp(width, config.hidden_dims, config.dropout, config.batch_norm)
        self.head = nn.Linear(width + config.hidden_dims[-1], 1)

    def forward(self, ids: Tensor, dense: Tensor, *sequences: Tensor) -> Tensor:
        """[B] logits."""
        x0 = torch.cat([self.fields(ids, *sequences).flatten(1), dense], dim=1)
        x = x0
        for layer in self.cross:
            x = x0 * layer(x) + x
        return self.head(torch.cat([x, self.mlp(x0)], dim=1)).squeeze(1)


class PlainCIN(nn.Module):
    """Outer products of the maps with the fields, then a convolution of width 1 per layer."""

    def __init__(self, n_fields: int, dims: tuple[int, ...], split_half: bool, activation: str) -> None:
        super().__init__()
        self.convolutions, self.split_half, self.d_out = nn.ModuleList(), split_half, 0
        self.activation_layer = nn.ReLU() if activation == "relu" else nn.Identity()
        n_in = n_fields
        for number, n_maps in enumerate(dims):
            self.convolutions.append(nn.Conv1d(n_in * n_fields, n_maps, 1))
            is_split = split_half and number < len(dims) - 1
            n_in = n_maps // 2 if is_split else n_maps
            self.d_out += n_maps - n_in if is_split else n_maps

    def forward(self, x0: Tensor) -> Tensor:
        """[B, F, D] to [B, d_out]."""
        x, outputs = x0, []
        for number, convolution in enumerate(self.convolutions):
            maps = self.activation_layer(convolution(torch.einsum("bhd,bfd->bhfd", x, x0).flatten(1, 2)))
            half = maps.shape[1] // 2 if self.split_half and number < len(self.convolutions) - 1 else 0
            outputs.append(maps[:, half:])
            x = maps[:, :half] if half else maps
        return torch.cat(outputs, dim=1).sum(2)


class PlainXDeepFM(nn.Module):
    """A CIN, an MLP and a linear term."""

    def __init__(self, config: XDeepFMConfig, schema: Schema) -> None:
        super().__init__()
        dim, n_dense = config.embedding_dim, len(schema.dense)
        self.fields = Fields(schema, dim, config.embedding_init_std, config.pool_sequences)
        self.weights = Fields(schema, 1, config.embedding_init_std, config.pool_sequences)
        self.cin = PlainCIN(len(self.fields), config.cin_dims, config.cin_split_half, config.cin_activation)
        self.mlp = mlp(len(self.fields) * dim + n_dense, config.hidden_dims, config.dropout, config.batch_norm)
        self.head = nn.Linear(self.cin.d_out + config.hidden_dims[-1] + n_dense, 1)

    def forward(self, ids: Tensor, dense: Tensor, *sequences: Tensor) -> Tensor:
        """[B] logits."""
        x = self.fields(ids, *sequences)
        deep = self.mlp(torch.cat([x.flatten(1), dense], dim=1))
        linear = self.weights(ids, *sequences).sum((1, 2))
        return linear + self.head(torch.cat([self.cin(x), deep, dense], dim=1)).squeeze(1)


class PlainFTTransformer(nn.Module):
    """Feature tokens, then pre-norm layers of nn.MultiheadAttention and a gated-ReLU feed-forward block."""

    def __init__(self, config: FTTransformerConfig, schema: Schema) -> None:
        super().__init__()
        width, n_dense = config.d_model, len(schema.dense)
        self.fields = Fields(schema, width, width**-0.5, config.pool_sequences)
        self.is_fourier, n_waves = config.numeric_tokens == "fourier", config.n_frequencies
        self.frequency = nn.Parameter(torch.randn(n_dense, n_waves) * config.frequency_std)
        self.weight = nn.Parameter(torch.randn(n_dense, 2 * n_waves if self.is_fourier else 1, width) * width**-0.5)
        self.bias = nn.Parameter(torch.randn(len(self.fields) + n_dense, width) * width**-0.5)
        self.cls = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)
        self.token_dropout = nn.Dropout1d(config.token_dropout)
        self.layers = nn.ModuleList(_Layer(config, number) for number in range(config.n_layers))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, ids: Tensor, dense: Tensor, *sequences: Tensor) -> Tensor:
        """[B] logits."""
        features = dense.unsqueeze(2)
        if self.is_fourier:
            angle = 2 * torch.pi * features * self.frequency
            features = torch.cat([angle.sin(), angle.cos()], dim=2)
        numeric = torch.einsum("bnk,nkd->bnd", features, self.weight)
        tokens = self.token_dropout(torch.cat([self.fields(ids, *sequences), numeric], dim=1) + self.bias)
        x = torch.cat([self.cls.expand(len(ids), 1, -1), tokens], dim=1)
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, 0]).squeeze(1)


class _Layer(nn.Module):
    def __init__(self, config: FTTransformerConfig, number: int) -> None:
        super().__init__()
        width, d_ffn = config.d_model, round(config.ffn_factor * config.d_model)
        self.skip_prob = config.stochastic_depth * (number + 1) / config.n_layers
        self.norms = nn.ModuleList([nn.Identity() if number == 0 else nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attention = nn.MultiheadAttention(width, config.n_heads, config.attention_dropout, batch_first=True)
        self.into, self.out = nn.Linear(width, 2 * d_ffn), nn.Linear(d_ffn, width)
        self.dropout = nn.Dropout(config.ffn_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, F, D] to the same shape."""
        y = self.norms[0](x)
        x = x + self.keep_rows(self.attention(y, y, y, need_weights=False)[0])
        value, gate = self.into(self.norms[1](x)).chunk(2, dim=2)
        return x + self.keep_rows(self.out(self.dropout(value * gate.relu())))

    def keep_rows(self, branch: Tensor) -> Tensor:
        """Stochastic depth: zeroes the branch of random rows in training."""
        if not self.training:
            return branch
        return branch * torch.empty(len(branch), 1, 1).bernoulli_(1 - self.skip_prob) / (1 - self.skip_prob)


class PlainDIN(nn.Module):
    """Sums of padded behaviors, weighted by an attention unit and masked."""

    def __init__(self, config: DINConfig, schema: Schema) -> None:
        super().__init__()
        if schema.target_item is None:
            raise ValueError("din needs schema.target_item")
        dim, std, sizes = config.embedding_dim, config.embedding_init_std, schema.num_embeddings
        self.fields = Fields(schema, dim, std, pools=False)
        self.target_position = schema.categorical.index(schema.target_item)
        self.n_token_sequences = len(schema.token_sequences)
        n_ids = [sizes[s.vocabulary] for s in schema.token_sequences]
        n_ids += [len(s.columns) for s in schema.column_sequences]
        self.events = nn.ModuleList(nn.Embedding(n + 1, dim, padding_idx=0) for n in n_ids)
        steps = n_ids[self.n_token_sequences :]
        self.shifts = nn.ModuleList(nn.Embedding(n + 1, dim, padding_idx=0) for n in steps)
        start_tables(self, std)
        dims, activation = config.attention_dims, config.activation
        self.units = nn.ModuleList(
            nn.Sequential(mlp(4 * dim, dims, 0.0, False, activation), nn.Linear(dims[-1], 1)) for _ in n_ids
        )
        width = (len(self.fields) + len(n_ids)) * dim + len(schema.dense)
        self.mlp = mlp(width, config.hidden_dims, config.dropout, config.batch_norm, activation)
        self.head = nn.Linear(config.hidden_dims[-1], 1)

    def forward(self, ids: Tensor, dense: Tensor, *sequences: Tensor) -> Tensor:
        """[B] logits."""
        x = self.fields(ids)
        target, pooled = x[:, self.target_position].unsqueeze(1), []
        for number, (tokens, values) in enumerate(zip(sequences[::2], sequences[1::2], strict=True)):
            events = self.events[number](tokens)
            if number >= self.n_token_sequences:
                shift = self.shifts[number - self.n_token_sequences]
                events = events * values.unsqueeze(2) + shift(tokens)
            t = target.expand_as(events)
            weight = self.units[number](torch.cat([events, t, events - t, events * t], dim=2))
            pooled.append((weight * (tokens > 0).unsqueeze(2) * events).sum(1))
        return self.head(self.mlp(torch.cat([x.flatten(1), *pooled, dense], dim=1))).squeeze(1)
