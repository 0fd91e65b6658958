"""The graph of every model gives the logits of the model itself."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from ranking.models import build_model, config_class
from recsys.data.dataset import PreparedDataset
from recsys.data.split import Split
from recsys.defaults import DataSize
from recsys.errors import InputError
from recsys.evaluation.calibration.calibrator import Calibrator
from recsys.evaluation.logits import LogitLink
from recsys.nn.linear_part import linear_part_of
from serving.export.encoders import write_encoder
from serving.export.graphs import programs, smaller
from serving.export.graphs.ranking_models import write_graph
from serving.export.parity import as_request
from serving.runtime.encoder import Needs
from serving.runtime.layout import BundleSpec, FitSpec, MemberSpec, NumberType
from serving.runtime.models import GraphModel, UserModel
from serving.runtime.split_encoder import SplitEncoder
from tests.helpers.sharded import with_tables
from tests.helpers.small import prepare_small, small_schema, small_table
from tests.ranking.test_every_model import MODELS

VARIANTS = MODELS | {
    "din-matching": {"hidden_dims": (8,), "attention_dims": (6,), "matching": {"dim": 3}, "batch_norm": True},
    "onetrans-long": {"d_model": 8, "n_heads": 2, "max_events": 2, "long_pooling": "sdim", "batch_norm": True},
    "dcnv2-unpooled": {"hidden_dims": (8,), "pool_sequences": False, "batch_norm": True},
}
MAIN = (
    "dcnv2",
    "dcnv2-unpooled",
    "xdeepfm",
    "ft_transformer",
    "ft_transformer-cls",
    "finalmlp-contexts",
    "qnn",
    "tabm",
    "din",
    "din-softmax-match",
    "din-sdim",
    "onetrans",
    "onetrans-long",
)
"""The others are exported by the slow tests."""
ROWS = np.arange(300)


def build(name: str, split: Split) -> nn.Module:
    """A model with random weights, and random moments of its normalizations."""
    torch.manual_seed(0)
    kind = config_class(name.split("-")[0])
    common = {"embedding_dim": 4, "embedding_init_std": 0.5}
    own = {key: value for key, value in common.items() if key in kind.model_fields}
    config = kind.model_validate(own | VARIANTS[name]).resolved(DataSize(2_000, 400, "cpu"))
    model = with_tables(build_model(config, split.schema))
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith("running_mean"):
            buffer.normal_(0, 0.3)
        elif buffer_name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("slope"):
            nn.init.uniform_(parameter, 0.1, 0.5)
        if ".out." in parameter_name or "ffn_out" in parameter_name:
            nn.init.normal_(parameter, 0, 0.3)
    part = linear_part_of(model)
    assert part is not None
    for tensor in (*part.ids.state_dict().values(), part.dense_weights):
        tensor.normal_(0, 0.5)
    part.share.fill_(0.4)
    return model.eval()


def exported_logits(
    model: nn.Module, split: Split, dataset: PreparedDataset, folder: Path, tables: NumberType
) -> np.ndarray:
    """The logits of the exported graph for the rows, each with a history of its own."""
    schema = dataset.manifest.schema_
    encoder = write_encoder(split.encoder, "0_full", folder)
    (folder / "models").mkdir()
    graph = write_graph(model, split.schema, folder, "models/m", tables)
    fit = FitSpec(name="full", encoder=0, link=LogitLink(1, 1), calibrator=Calibrator(), model=graph)
    spec = BundleSpec(
        format_version=1,
        name="m",
        data="",
        schema_=schema,
        kinds=dataset.manifest.kinds,
        weights=tables,
        vocabularies={},
        encoders=(encoder,),
        members=(MemberSpec(name="m", fits=(fit,)),),
        stack=None,
        calibrator=Calibrator(),
        log_pos_weight=0.0,
        scale="natural",
    )
    needs = Needs.of(spec)
    inputs = SplitEncoder(encoder, folder / "encoders" / "0_full", needs)
    request = as_request(dataset.store.encoded(split.fit_rows(ROWS)), spec, needs)
    vocabulary_of = {name: vocabulary for vocabulary, names in schema.vocabularies.items() for name in names}
    kind = UserModel if graph.is_of_users else GraphModel
    return kind(graph, folder, inputs, vocabulary_of, 1).logits([inputs(request)])


@pytest.mark.parametrize(
    "name", [name if name in MAIN else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS]
)
def test_a_graph_equals_its_model(name: str, with_target: PreparedDataset, tmp_path: Path) -> None:
    split = with_target.split("full")
    model = build(name, split)
    with torch.no_grad():
        expected = model(split.batch(split.fit_rows(ROWS), model.sequences)).numpy()
    assert np.ptp(expected) > 0.05
    np.testing.assert_allclose(exported_logits(model, split, with_target, tmp_path, "fp32"), expected, atol=1e-5)


def test_a_model_without_a_linear_part(with_target: PreparedDataset, tmp_path: Path) -> None:
    split = with_target.split("full")
    torch.manual_seed(0)
    config = config_class("onetrans").model_validate({"d_model": 8, "linear_part": False})
    model = with_tables(build_model(config, split.schema)).eval()
    with torch.no_grad():
        expected = model(split.batch(split.fit_rows(ROWS), model.sequences)).numpy()
    np.testing.assert_allclose(exported_logits(model, split, with_target, tmp_path, "fp32"), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "tables", "tolerance"),
    [("dcnv2", "fp16", 2e-2), *((name, "int8", 1e-1) for name in ("dcnv2", "xdeepfm", "ft_transformer", "din"))],
)
def test_smaller_numbers_change_logits_little(
    name: str,
    tables: NumberType,
    tolerance: float,
    with_target: PreparedDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(smaller, "_MIN_SIZE", 64)
    split = with_target.split("full")
    model = build(name, split)
    with torch.no_grad():
        expected = model(split.batch(split.fit_rows(ROWS), model.sequences)).numpy()
    difference = np.abs(exported_logits(model, split, with_target, tmp_path, tables) - expected)
    assert 0 < difference.max() < tolerance
    (table,) = [path for path in (tmp_path / "models").glob("*.npy") if "scales" not in path.name][:1]
    assert np.load(table).dtype == {"fp16": np.float16, "int8": np.int8}[tables]
    (graph,) = (tmp_path / "models").glob("*.onnx")
    matrices = [
        tensor
        for tensor in onnx.load(str(graph)).graph.initializer
        if len(tensor.dims) > 1 and np.prod(tensor.dims) >= 64 and tensor.data_type != onnx.TensorProto.INT64
    ]
    assert matrices
    assert all(tensor.data_type != onnx.TensorProto.FLOAT for tensor in matrices)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "loaded.onnx")
    onnxruntime.InferenceSession(str(graph), options)
    loaded = {tensor.name: tensor.data_type for tensor in onnx.load(options.optimized_model_filepath).graph.initializer}
    small_types = {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT16}
    assert not small_types & set(loaded.values()), "a request would turn them into float32 again"


@pytest.mark.parametrize("name", ["dcnv2", "ft_transformer"])
def test_numbers_are_features_enough(name: str, tmp_path: Path) -> None:
    schema = small_schema(categorical=[], sequences={}, segments={})
    dataset = prepare_small(small_table(), tmp_path / "raw", tmp_path / "out", schema)
    split = dataset.split("full")
    model = build(name, split)
    with torch.no_grad():
        expected = model(split.batch(split.fit_rows(ROWS), [])).numpy()
    folder = tmp_path / "bundle"
    folder.mkdir()
    np.testing.assert_allclose(exported_logits(model, split, dataset, folder, "fp32"), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["dcnv2", "xdeepfm", "ft_transformer"])
def test_categories_are_features_enough(name: str, tmp_path: Path) -> None:
    schema = small_schema(numeric=[], sequences={}, segments={})
    dataset = prepare_small(small_table(), tmp_path / "raw", tmp_path / "out", schema)
    split = dataset.split("full")
    model = build(name, split)
    with torch.no_grad():
        expected = model(split.batch(split.fit_rows(ROWS), [])).numpy()
    folder = tmp_path / "bundle"
    folder.mkdir()
    np.testing.assert_allclose(exported_logits(model, split, dataset, folder, "fp32"), expected, atol=1e-5)


def test_a_model_without_interactions_is_refused(tmp_path: Path) -> None:
    schema = small_schema(categorical=[], sequences={}, segments={})
    split = prepare_small(small_table(), tmp_path / "raw", tmp_path / "out", schema).split("full")
    with pytest.raises(InputError, match="xdeepfm without categorical features and sequences"):
        write_graph(build("xdeepfm", split), split.schema, tmp_path, "m", "fp32")


@pytest.mark.parametrize(
    ("name", "is_compiled"),
    [("dcnv2", False), *(pytest.param(name, True, marks=pytest.mark.slow) for name in ("dcnv2", "din"))],
)
def test_programs_of_torch_equal_the_graph(
    name: str, is_compiled: bool, with_target: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_compiled:
        monkeypatch.setattr(programs, "_COMPILERS", ())
    split = with_target.split("full")
    (tmp_path / "models").mkdir()
    write_graph(build(name, split), split.schema, tmp_path, "models/m", "fp32", has_program=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "models/m.onnx"))
    rng, sizes = np.random.default_rng(0), {"rows": 7, "users": 3, "candidates": 5}
    inputs = {
        node.name: rng.normal(size=[sizes.get(axis, 4) if isinstance(axis, str) else axis for axis in node.shape])
        for node in session.get_inputs()
    }
    inputs = {name: values.astype(np.float32) for name, values in inputs.items()}
    (expected,) = session.run(None, inputs)
    tensors = [torch.from_numpy(values) for values in inputs.values()]
    exported = torch.export.load(tmp_path / "models/m.pt2").module()
    np.testing.assert_allclose(exported(*tensors).detach().numpy(), expected, atol=1e-5)
    compiled = tmp_path / "models/m.compiled.pt2"
    assert compiled.is_file() <= is_compiled
    if compiled.is_file():
        package = torch._inductor.aoti_load_package(str(compiled))
        np.testing.assert_allclose(package(*tensors).numpy(), expected, atol=1e-5)
