"""Graphs as programs of torch.export, for processes that have torch, or that are written in C++."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

EXPORTED, COMPILED = ".pt2", ".compiled.pt2"
_COMPILERS = ("g++", "clang++")


@torch.no_grad()
def write_program(graph: nn.Module, inputs: Sequence[Tensor], dynamic_shapes: Any, path: Path) -> None:
    """Writes a module as path.pt2, and compiled by AOTInductor as path.compiled.pt2 where there is a C++ compiler.

    Args:
        graph: the module.
        inputs: examples of its arguments.
        dynamic_shapes: as for `torch.export.export`.
        path: the path of the files, without the end of their names.
    """
    program = torch.export.export(graph.eval(), tuple(inputs), dynamic_shapes=dynamic_shapes)
    torch.export.save(program, path.with_name(path.name + EXPORTED))
    if any(map(shutil.which, _COMPILERS)):
        compiled = path.with_name(path.name + COMPILED)
        torch._inductor.aoti_compile_and_package(program, package_path=str(compiled))
