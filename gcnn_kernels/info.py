"""``python -m gcnn_kernels.info``: what is built, what is usable here, and why the rest is not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator

import torch

from . import __version__
from .backends import BACKENDS, ConvProblem, binaries, choose, choose_for_conv
from .groups import point_group


def report() -> str:
    """The report that the command prints."""
    lines = [f"gcnn_kernels {__version__}"]
    lines += [f"  {name:<11} {value}" for name, value in _versions()]
    lines += ["", "binaries"]
    for name in ("_cpu", "_cuda"):
        path, reason = binaries.load(name)
        lines.append(f"  {name:<11} {path or f'not usable: {reason}'}")
        if name == "_cpu" and path:
            lines.append(f"  {'':<11} compiled by {torch.ops.gcnn_cpu.compiler().strip()}")
    lines += ["", "backends, in the order in which 'auto' tries them"]
    for name, backend in BACKENDS.items():
        reason = backend.unavailable()
        lines.append(f"  {name:<11} {'usable' if reason is None else 'not usable: ' + reason}")
    lines += ["", "what 'auto' chooses"]
    lines += [f"  {line}" for device in _devices() for line in _choices(device)]
    return "\n".join(lines)


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    yield "torch", f"{torch.__version__} (CUDA {torch.version.cuda or 'none'})"
    try:
        yield "triton", importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        yield "triton", "not installed"
    yield "CPU", _cpu()
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        yield f"GPU {index}", f"{torch.cuda.get_device_name(index)}, compute capability {major}.{minor}"


def _cpu() -> str:
    threads = torch.get_num_threads()
    parts = [f"{threads} thread{'s' if threads > 1 else ''}"]
    if binaries.load("_cpu")[0] is not None:
        try:
            parts.insert(0, f"instruction set {torch.ops.gcnn_cpu.isa()}")
        except RuntimeError:
            parts.insert(0, f"GCNN_CPU_ISA={os.environ['GCNN_CPU_ISA']} is not usable")
    return ", ".join(parts)


def _devices() -> Iterator[torch.device]:
    yield torch.device("cpu")
    if torch.cuda.is_available():
        yield torch.device("cuda", torch.cuda.current_device())


def _choices(device: torch.device) -> Iterator[str]:
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    for group in map(point_group, ("p4", "p4m")):
        for title, channels, slots in (("lifting 3 -> 64", 3, 1), ("group conv 64 -> 64", 64, group.order)):
            problem = ConvProblem.of(
                "conv", (16, channels, slots, 32, 32), (64, channels, slots, 3, 3),
                group=group, padding=(1, 1), dtype=dtype, device=device,
            )  # fmt: skip
            backend, algorithm = choose_for_conv(problem, "auto", "auto")
            yield f"{device.type} {str(dtype)[6:]} {group.name} {title}, 3x3, 32x32: {backend.name}, {algorithm}"
    probe = torch.empty(1, dtype=dtype, device=device)
    for op, title in (("norm", "group batch norm"), ("pool", "group max pooling"), ("filters", "filter expansion")):
        yield f"{device.type} {str(dtype)[6:]} {title}: {choose(op, probe, 'auto').name}"


if __name__ == "__main__":
    print(report())
