"""What the device itself can do: matrix products, copies, and the launches and waits of a piece of work."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

_SIDE = {"cuda": 8192, "cpu": 512}
_COPIED = {"cuda": 1 << 30, "cpu": 1 << 24}
_LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch")
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "aten::_local_scalar_dense")


def seconds_per_run(work: Callable[[], object], n_warm: int, n: int, device: torch.device) -> float:
    """Returns the mean seconds of `n` runs after `n_warm` runs."""
    for _ in range(n_warm):
        work()
    wait(device)
    start = time.perf_counter()
    for _ in range(n):
        work()
    wait(device)
    return (time.perf_counter() - start) / n


def wait(device: torch.device) -> None:
    """Waits for the work that is queued on a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bf16_rate(device: torch.device) -> float:
    """Returns the operations per second of a large bfloat16 matrix product."""
    side = _SIDE[device.type]
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / seconds_per_run(lambda: a @ b, 3, 10, device)


def copy_rate(device: torch.device) -> float:
    """Returns the bytes per second, read and written, of a large copy on the device."""
    source = torch.randint(0, 100, (_COPIED[device.type],), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * len(source) / seconds_per_run(lambda: target.copy_(source), 3, 10, device)


@dataclass(frozen=True)
class Profile:
    """What a run of some work starts on a GPU, and what it waits for."""

    launches: float
    """Kernels and graphs that the host starts."""
    waits: float
    """Times that the host waits for the device."""
    busy_ms: float
    """Milliseconds that kernels compute."""
    longest: list[tuple[str, float, float]]
    """Kernels with the most time: name, milliseconds and number."""


def profiled(work: Callable[[], object], n: int, device: torch.device) -> Profile | None:
    """Profiles `n` runs of some work and returns the counts of one run; None without a GPU."""
    if device.type != "cuda":
        return None
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for _ in range(n):
            work()
        wait(device)
    events = profiler.key_averages()
    counts = Counter({event.key: event.count for event in events})
    kernels = [e for e in events if e.device_type == DeviceType.CUDA and not getattr(e, "is_user_annotation", False)]
    kernels.sort(key=lambda event: -event.self_device_time_total)
    return Profile(
        launches=sum(counts[name] for name in _LAUNCHES) / n,
        waits=(sum(counts[name] for name in _WAITS) - 1) / n,  # the last one is that of this function
        busy_ms=sum(kernel.self_device_time_total for kernel in kernels) / 1e3 / n,
        longest=[(e.key[:140], round(e.self_device_time_total / 1e3 / n, 4), e.count / n) for e in kernels[:40]],
    )
