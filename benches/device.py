"""The device that is timed: its clock, its precisions, its ceilings, its peak memory.

``pytest benches/ --device cpu|cuda`` chooses one; the default is the GPU where there is one. Everything that draws or
times asks ``device.current()``.
"""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F

from gcnn_kernels.backends import BACKENDS

from .cases import at_paper_batch

_L2_BYTES = 2**28  # more than any GPU's second-level cache holds

# What holds torch's own CPU libraries to the instruction set that GCNN_CPU_ISA names, for the rivals: they read it when
# they are first used.
_TORCH_ON = {
    "avx512": {},
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "portable": {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}


@dataclass(frozen=True)
class Precision:
    """The arithmetic of a benchmark.

    Attributes:
        name: as in the results.
        dtype: of the tensors.
        tolerance: of ``||ours - exact|| / ||exact||``, exact being float64.
    """

    name: str
    dtype: torch.dtype
    tolerance: float


class Cpu:
    """Wall-clock times in fp32."""

    name = "cpu"
    torch_device = torch.device("cpu")
    precisions = (Precision("fp32", torch.float32, 2e-6),)
    clock = staticmethod(time.perf_counter)

    def describe(self) -> dict:
        """What a ratio depends on besides the code; ratios of another kind of machine are no measure."""
        isa = torch.ops.gcnn_cpu.isa() if BACKENDS["cpu"].unavailable() is None else "no kernels"
        return {"cpu": isa, "threads": torch.get_num_threads()}

    def sized(self, case):
        """The case with the batch that is timed here."""
        return case

    def before_round(self) -> None:
        """The untimed beginning of every single measurement."""

    def peak_memory(self, function: Callable) -> int | None:
        """Bytes by which the process grows at most while ``function`` runs; None where the system does not tell.

        Everything counts that needs pages: tensors, workspaces, the allocator's slack. Linux tells.
        """
        status, refs = Path("/proc/self/status"), Path("/proc/self/clear_refs")
        if not refs.exists():
            return None
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # freed memory that malloc still holds would hide growth
        refs.write_text("5")  # resets the peak
        before = _kilobytes(status, "VmRSS")
        function()
        return 1024 * (_kilobytes(status, "VmHWM") - before)

    @cache  # noqa: B019  (one device for the process)
    def peak_gflops(self, precision: Precision) -> float:
        """What dense arithmetic reaches here: the best of a large matrix product and a large convolution."""
        dtype = precision.dtype
        a, b = torch.randn(2, 2048, 2048, dtype=dtype)
        out = torch.empty_like(a)
        x = torch.randn(4, 512, 32, 32, dtype=dtype).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(512, 512, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
        product = min(self.seconds(lambda: torch.mm(a, b, out=out)) for _ in range(6))
        conv = min(self.seconds(lambda: F.conv2d(x, weight, padding=1)) for _ in range(6))
        return max(2 * 2048**3 / product, 2 * x.numel() * 512 * 9 / conv) / 1e9

    @cache  # noqa: B019
    def copy_bandwidth(self) -> float:
        """Bytes read and written per second by a copy larger than all caches."""
        source = torch.zeros(2**28, dtype=torch.int8)
        target = torch.empty_like(source)
        return 2 * source.numel() / min(self.seconds(lambda: target.copy_(source)) for _ in range(6))

    def seconds(self, function: Callable) -> float:
        """The time of one run."""
        self.before_round()
        start = self.clock()
        function()
        return self.clock() - start


class Cuda:
    """CUDA events in bf16 and tf32, at the papers' batches; the L2 cache is overwritten before each measurement."""

    name = "cuda"
    precisions = (Precision("bf16", torch.bfloat16, 1e-2), Precision("tf32", torch.float32, 1e-3))

    def __init__(self):
        if not torch.cuda.is_available():
            raise ValueError("--device cuda: torch.cuda.is_available() is False")
        self.torch_device = torch.device("cuda", torch.cuda.current_device())
        self._flushed = torch.empty(_L2_BYTES, dtype=torch.int8, device=self.torch_device)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.benchmark = True

    def describe(self) -> dict:
        return {"gpu": torch.cuda.get_device_name(self.torch_device)}

    def sized(self, case):
        return at_paper_batch(case)

    def before_round(self) -> None:
        self._flushed.zero_()  # it also keeps the GPU busy while the round's first kernels are launched

    def clock(self) -> Instant:
        """A place in the GPU's stream of work."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return Instant(event)

    def seconds(self, function: Callable) -> float:
        self.before_round()
        start = self.clock()
        function()
        return self.clock() - start

    def peak_memory(self, function: Callable) -> int:
        """Bytes that torch's allocator hands out at most while ``function`` runs."""
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return torch.cuda.max_memory_allocated() - before

    @cache  # noqa: B019
    def peak_gflops(self, precision: Precision) -> float:
        a, b = torch.randn(2, 8192, 8192, device=self.torch_device).to(precision.dtype)
        return 2 * 8192**3 / min(self.seconds(lambda: a @ b) for _ in range(6)) / 1e9

    @cache  # noqa: B019
    def copy_bandwidth(self) -> float:
        source = torch.empty(2**32, dtype=torch.int8, device=self.torch_device)
        target = torch.empty_like(source)
        return 2 * source.numel() / min(self.seconds(lambda: target.copy_(source)) for _ in range(6))


@dataclass(frozen=True)
class Instant:
    """The difference of two is in seconds, as that of two readings of a clock."""

    event: torch.cuda.Event

    def __sub__(self, earlier: Instant) -> float:
        self.event.synchronize()
        return earlier.event.elapsed_time(self.event) / 1e3


DEVICES = {"cpu": Cpu, "cuda": Cuda}
_current: Cpu | Cuda = Cpu()


def current() -> Cpu | Cuda:
    return _current


def use(name: str) -> None:
    """Makes a device the current one; before anything is computed.

    Raises:
        ValueError: if torch cannot use it.
    """
    global _current
    os.environ.update(_TORCH_ON.get(os.environ.get("GCNN_CPU_ISA"), {}))
    _current = DEVICES[name]()


def _kilobytes(status, field):
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(f"{field}:"))
