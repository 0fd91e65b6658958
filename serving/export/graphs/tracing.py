"""Traces a module with example inputs, and writes it as an ONNX graph."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recsys.errors import InputError
from serving.export.graphs.programs import write_program

OPSET = 20


def dimension(name: str) -> Any:
    """An axis of any length from 1."""
    return torch.export.Dim(name, min=1, max=1 << 20)


@torch.no_grad()
def trace(
    graph: nn.Module,
    inputs: Sequence[Tensor],
    shapes: Sequence[dict[int, Any]],
    names: Sequence[str],
    path: Path,
    n_named: int = 1,
    has_program: bool = False,
) -> None:
    """Traces a module with example inputs, and writes the graph.

    Args:
        graph: the module.
        inputs: examples of its arguments.
        shapes: for each of them, the axes that may have any length.
        names: the names of the inputs.
        path: the file to write.
        n_named: the number of arguments before `*args` of its forward pass.
        has_program: whether to write it as a program of torch.export too.
    """
    dynamic_shapes = (*shapes[:n_named], *([others] if (others := tuple(shapes[n_named:])) else []))
    with _quiet():
        if has_program:
            write_program(graph, inputs, dynamic_shapes, path.with_suffix(""))
        program = torch.onnx.export(
            graph.eval(),
            tuple(inputs),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=dynamic_shapes,
            input_names=list(names),
            output_names=["logit"],
            verbose=False,
        )
    assert program is not None
    check_any_length(program, shapes)
    program.save(str(path), external_data=False)


def check_any_length(program: torch.onnx.ONNXProgram, shapes: Sequence[dict[int, Any]]) -> None:
    """Checks that a graph takes inputs of any length: the exporter may fix an axis to the length of its example.

    Raises:
        InputError: if it does not.
    """
    for value, axes in zip(program.model.graph.inputs, shapes, strict=True):
        for axis in axes:
            if value.shape is None or isinstance(value.shape[axis], int):
                raise InputError(
                    f"the graph's input {value.name} has a fixed number of rows: a model of your own must take it from "
                    "shape[0] of a tensor, not from len"
                )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides messages of the exporter that users cannot act on."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
