"""Finds what makes a host wait for its device: reads of a tensor's values, and shapes that depend on values."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from recsys.training.update import lookups

_READS = ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__")
_SHAPED_BY_VALUES = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2")


class WaitError(AssertionError):
    """The host would wait for the device."""


class _NoShapesByValues(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name == "aten::_local_scalar_dense" and _in_table_kernel():
            return func(*args, **kwargs or {})  # only fbgemm's CPU kernel reads its tensors
        if func._schema.name in _SHAPED_BY_VALUES:
            raise WaitError(func._schema.name)
        if func._schema.name == "aten::index" and any(i is not None and i.dtype == torch.bool for i in args[1]):
            raise WaitError("an index of booleans")
        return func(*args, **kwargs or {})


def _in_table_kernel() -> bool:
    frames = inspect.stack(0)
    names = [(frame.filename, frame.function) for frame in frames]
    return any("fbgemm_gpu" in file or (file.endswith("lookups.py") and name == "backward") for file, name in names)


@contextmanager
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Raises WaitError where code on a GPU would wait, on a CPU too."""

    def read(name: str) -> Any:
        original = getattr(Tensor, name)

        def refuse(*args: Any, **kwargs: Any) -> Any:
            caller = inspect.currentframe().f_back.f_code  # type: ignore[union-attr]
            if "fbgemm_gpu" in caller.co_filename:  # it reads tensors that it keeps on the host
                return original(*args, **kwargs)
            raise WaitError(f"{name} in {caller.co_name}")

        return refuse

    with monkeypatch.context() as patch, _NoShapesByValues():
        for name in _READS:
            patch.setattr(Tensor, name, read(name))
        # a CPU may look: it has nothing to wait for
        patch.setattr(lookups, "_zeros_unless", lambda is_finite, gradient: gradient.masked_fill(~is_finite, 0.0))
        yield
