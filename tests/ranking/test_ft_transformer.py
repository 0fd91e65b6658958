import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ranking.ft_transformer import Block, FTTransformer, FTTransformerConfig
from recsys.data.dataset import PreparedDataset
from recsys.defaults import DataSize
from recsys.nn.layers import TokenDropout
from tests.helpers.sharded import with_tables
from tests.helpers.training import quick, trainer_of

OF_A_GPU = DataSize(n_rows=10_000_000, n_positive=200_000, device="cuda")  # the paper's, but for sizes
SMALL = FTTransformerConfig(d_model=8, n_heads=2, n_layers=3, n_frequencies=3).resolved(OF_A_GPU)


def test_block_equals_torch_attention_with_a_gated_relu() -> None:
    """The reference is nn.MultiheadAttention after a norm, and the feed-forward formula."""
    torch.manual_seed(0)
    block, x = Block(SMALL, 0.0, is_first=False).eval(), torch.randn(4, 5, 8)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([block.query.weight, block.key_value.weight]))
        attention.in_proj_bias.copy_(torch.cat([block.query.bias, block.key_value.bias]))
        attention.out_proj.load_state_dict(block.out.state_dict())
        normed = block.attention_norm(x)
        y = x + attention(normed, normed, normed, need_weights=False)[0]
        value, gate = (block.ffn_norm(y) @ block.ffn_in.weight.T + block.ffn_in.bias).split(11, dim=2)
        y = y + (value * gate.clamp(min=0)) @ block.ffn_out.weight.T + block.ffn_out.bias
        assert torch.allclose(block(x), y, atol=1e-5)
        assert torch.allclose(block(x, 1), y[:, :1], atol=1e-5)


def test_one_token_per_feature_and_cls_first(small: PreparedDataset) -> None:
    split = small.split("full")
    model = with_tables(FTTransformer(SMALL, split.schema)).eval()
    batch = split.batch(np.arange(6), model.sequences)
    tokens = model.tokens(batch)
    assert tokens.shape == (6, 1 + 3 + len(split.schema.dense), 8)
    assert torch.equal(tokens[:, 0], model.cls.value.expand(6, -1))
    shop = dict(model.embeddings.collection.embedding_bags.items())["shop"].weight
    expected = shop[batch.sparse["shop"].values().long()] + model.embedding_bias.value[1]
    assert torch.allclose(tokens[:, 2], expected)


def test_batch_normalized_tokens_and_token_readout_by_numpy(small: PreparedDataset) -> None:
    split = small.split("full")
    changes = {"token_batch_norm": True, "readout": "tokens", "token_dropout": 0.0, "stochastic_depth": 0.0}
    torch.manual_seed(0)
    model = with_tables(FTTransformer(SMALL.model_copy(update=changes), split.schema)).train()
    batch = split.batch(np.arange(30), model.sequences)
    tokens = model.tokens(batch).detach().numpy()
    assert tokens.shape == (30, 3 + len(split.schema.dense), 8)
    assert np.allclose(tokens.mean(axis=0), 0, atol=1e-4)
    norm, model.token_norm = model.token_norm, None
    raw = model.tokens(batch).detach().numpy()
    assert np.allclose(tokens, (raw - raw.mean(axis=0)) / np.sqrt(raw.var(axis=0) + norm.eps), atol=1e-4)
    model.eval()
    states = model.tokens(batch)
    for block in model.blocks:
        states = block(states)
    weight, bias = model.head.linear.weight.detach().numpy(), model.head.linear.bias.detach().numpy()
    read = model.norm(states).detach().numpy().reshape(30, -1)
    assert np.allclose(model(batch).detach().numpy(), read @ weight[0] + bias, atol=1e-5)


def test_token_dropout_drops_whole_tokens() -> None:
    torch.manual_seed(0)
    out = TokenDropout(0.2)(torch.ones(500, 10, 4))
    assert (out == out[..., :1]).all()
    assert (out[..., 0] == 0).float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert out[..., 0].unique().tolist() == pytest.approx([0.0, 1.25])


def test_stochastic_depth_grows_with_depth(small: PreparedDataset) -> None:
    model = FTTransformer(SMALL, small.split("full").schema)
    assert [block.skip.probability for block in model.blocks] == pytest.approx([0.1 / 3, 0.2 / 3, 0.1])


def test_gradient_checkpointing_changes_no_gradient(small: PreparedDataset) -> None:
    split = small.split("full")

    def gradients(is_on: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        config = SMALL.model_copy(update={"gradient_checkpointing": is_on})
        model = with_tables(FTTransformer(config, split.schema)).train()
        torch.manual_seed(1)
        model(split.batch(np.arange(40), model.sequences)).square().sum().backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    plain, saved = gradients(False), gradients(True)
    for name, value in plain.items():
        assert torch.allclose(value, saved[name], atol=1e-6), name


def test_weight_decay_applies_to_transformer_matrices(small: PreparedDataset, tmp_path: object) -> None:
    """As in the authors' code: not to tokens, norms and biases."""
    model = FTTransformer(SMALL, small.split("full").schema)
    trainer = trainer_of(small, "full", quick(), tmp_path, model)  # type: ignore[arg-type]
    names = {id(p): name for name, p in model.named_parameters()}
    decayed = {names[id(p)] for p in trainer._updater.optimizers.dense.param_groups[0]["params"]}
    kinds = ("query", "key_value", "out", "ffn_in", "ffn_out")
    expected = {f"blocks.{k}.{kind}.weight" for k in range(3) for kind in kinds} | {"head.linear.weight"}
    assert decayed == expected


@pytest.mark.parametrize("readout", ["cls", "tokens"])
def test_without_norms_a_new_model_is_wide_and_deep(small: PreparedDataset, readout: str) -> None:
    """The logit is an MLP and a linear term of the tokens until an update of the branches, which start at zero."""
    split = small.split("full")
    changes = {"norm": "none", "readout": readout, "hidden_dims": (6,), "n_layers": 2}
    torch.manual_seed(0)
    model = with_tables(FTTransformer(SMALL.model_copy(update=changes), split.schema)).eval()
    batch = split.batch(np.arange(30), model.sequences)
    tokens = model.tokens(batch)
    deep, wide = (tokens[:, 0].relu(), tokens[:, 1:]) if readout == "cls" else (tokens.flatten(1), tokens)
    expected = model.head(model.mlp(deep), wide.flatten(1))
    assert torch.equal(model(batch), expected)
    assert not any(isinstance(module, nn.LayerNorm) for module in model.modules())
    optimizer = torch.optim.SGD([p for block in model.blocks for p in block.parameters()], lr=1.0)
    model(batch).square().sum().backward()
    optimizer.step()
    assert not torch.allclose(model(batch), expected)


def test_block_without_norms_by_hand() -> None:
    torch.manual_seed(0)
    block, x = Block(SMALL.model_copy(update={"norm": "none"}), 0.0, is_first=False).eval(), torch.randn(4, 5, 8)
    assert torch.equal(block(x), x)
    with torch.no_grad():
        block.out.weight.copy_(torch.eye(8))
        block.ffn_out.bias.fill_(2.0)
        block.key_value.weight[:8].zero_()
        block.key_value.bias[:8].zero_()
        values = x @ block.key_value.weight[8:].T + block.key_value.bias[8:]
    mean = values.mean(dim=1, keepdim=True)  # keys of zeros attend to all tokens alike
    assert torch.allclose(block(x), x + mean + 2, atol=1e-5)


def test_norm_and_size_are_chosen_together() -> None:
    """A width that is set keeps the paper's norms, as do runs of versions without the setting."""
    of_few_clicks = DataSize(n_rows=2_000, n_positive=800)
    chosen, wide = FTTransformerConfig().resolved(of_few_clicks), FTTransformerConfig(d_model=64)
    assert (chosen.d_model, chosen.norm) == (16, "none")
    assert FTTransformerConfig.model_validate(chosen.model_dump()) == chosen
    assert wide.norm == FTTransformerConfig.model_validate({"d_model": 64, "norm": "auto"}).norm == "layer"
    assert FTTransformerConfig().resolved(OF_A_GPU).norm == "layer"
    assert FTTransformerConfig(norm="layer").resolved(of_few_clicks).norm == "layer"


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="n_heads must divide d_model, got 3 and 8"):
        FTTransformerConfig(d_model=8, n_heads=3)
