"""Triton programs as the launcher would compile them, compiled without a GPU.

The backend is called on meta tensors while Triton's launcher is replaced by one that records.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple
from unittest.mock import patch

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from gcnn_kernels.backends import ConvProblem
from gcnn_kernels.backends.base import Epilogue
from gcnn_kernels.backends.triton import conv, cost
from gcnn_kernels.functional import ACTIVATION_SLOPES

from . import cubin

POINTERS = {
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.int32: "*i32",
    torch.uint8: "*u8",
}


@dataclass(frozen=True)
class Program:
    """What the launcher would compile for one launch, and the grid of blocks that it would start."""

    name: str
    source: ASTSource
    options: dict
    uses_tensor_cores: bool
    grid: tuple[int, ...]

    @property
    def key(self):
        return self.source.hash(), tuple(sorted(self.options.items()))

    @property
    def constants(self) -> dict:
        """The constant arguments by name."""
        return {self.source.fn.arg_names[place[0]]: value for place, value in self.source.constants.items()}

    @property
    def of_filters(self) -> bool:
        """Whether a kernel of the staged algorithm works on filters, not on maps."""
        constants = self.constants
        return bool(constants.get("FILTERS")) or (self.name.startswith("scatter_kernel") and constants["K"] > 1)


class Compiled(NamedTuple):
    usage: cubin.Usage
    warps: int
    shared: int  # bytes of shared memory
    ptx: str
    sass: str


def recorded(name: str, function: Callable, *arguments) -> list[Program]:
    """Calls a function on meta tensors and returns the programs that it would launch."""
    launches = []

    def launch(kernel, *args, grid, warmup, **kwargs):
        launches.append((kernel, args, kwargs, grid))

    with patch.object(JITFunction, "run", launch):
        function(*arguments)
    return [_program(name, *launch) for launch in launches]


def run_conv(
    layer: ConvProblem, algorithm: str, bias: bool = True, activation: str | None = None, statistics: bool = False
) -> None:
    """The operator of a problem on meta tensors, in channels_last_3d; what follows a forward convolution folded in."""
    kernels = conv.algorithms[algorithm]

    def empty(shape):
        last = torch.channels_last_3d if shape in (layer.in_shape, layer.out_shape) else torch.contiguous_format
        return torch.empty(shape, dtype=layer.dtype, device="meta", memory_format=last)

    x, weight, y = empty(layer.in_shape), empty(layer.weight_shape), empty(layer.out_shape)
    if layer.op == "conv":
        shift = torch.empty(layer.out_channels, dtype=layer.dtype, device="meta") if bias else None
        folded = (Epilogue(ACTIVATION_SLOPES[activation], statistics),) if algorithm in conv.folds else ()
        kernels.conv(layer, x, weight, shift, *folded)
    elif layer.op == "conv_input_grad":
        kernels.conv_input_grad(layer, y, weight)
    else:
        kernels.conv_weight_grad(layer, y, x)


@contextmanager
def generation(name: str):
    """Within it the backend takes every device for one of that GPU generation, "sm_90" for instance."""
    caches = cost.table, cost._choose_tile, cost._choose_algorithm
    with patch.object(cost, "generation", lambda device: name):
        for cached in caches:
            cached.cache_clear()
        yield
    for cached in caches:
        cached.cache_clear()


def _program(name, kernel, args, kwargs, grid) -> Program:
    """The program of a launch. Numbers equal to 1 and divisible by 16 are known as such, as the launcher has it."""
    given = dict(zip(kernel.arg_names, args, strict=False)) | {k: v for k, v in kwargs.items() if k in kernel.arg_names}
    signature, constants, attributes = {}, {}, {}
    for position, (argument, parameter) in enumerate(zip(kernel.arg_names, kernel.params, strict=True)):
        value = given[argument]
        if parameter.is_constexpr or (isinstance(value, int) and value == 1 and not parameter.do_not_specialize):
            signature[argument], constants[argument] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[argument], attributes[(position,)] = POINTERS[value.dtype], [["tt.divisibility", 16]]
        elif isinstance(value, int):
            signature[argument] = "i32" if -(2**31) <= value < 2**31 else "i64"
            if value % 16 == 0 and not parameter.do_not_specialize:
                attributes[(position,)] = [["tt.divisibility", 16]]
        else:
            signature[argument] = "fp32"
    options = {name: kwargs[name] for name in ("num_warps", "num_stages", "enable_fp_fusion") if name in kwargs}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    products = constants.get("DOT") == tl.bfloat16 or constants.get("PRECISION") == "tf32"
    return Program(f"{kernel.__name__} of {name}", source, options, products, grid)


def compiled(programs: list[Program], architecture: str) -> list[Compiled]:
    """Compiles programs on all cores for a GPU generation such as "sm_90"."""
    return _in_processes(_inspected, programs, architecture, os.cpu_count() or 1)


def cold(programs: list[Program], architecture: str, processes: int) -> tuple[float, float]:
    """Seconds to compile programs with nothing in Triton's cache: by the clock, and of all processes together."""
    before = os.times()
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, TRITON_CACHE_DIR=folder):
        _in_processes(_compile, programs, architecture, processes)
    after = os.times()
    return after.elapsed - before.elapsed, sum(after[:4]) - sum(before[:4])


def _in_processes(function, programs, architecture, processes):
    """``function(index)`` of every program, with ``_jobs`` set."""
    global _jobs
    target = GPUTarget("cuda", int(architecture.removeprefix("sm_")), 32)
    _jobs = [(program, target) for program in programs]
    # Forked, since a kernel cannot be pickled.
    with multiprocessing.get_context("fork").Pool(min(len(_jobs), processes)) as pool_of_processes:
        results = pool_of_processes.map(function, range(len(_jobs)), chunksize=1)
        pool_of_processes.close()
        pool_of_processes.join()  # so that os.times knows of the processes' seconds
    return results


def _compile(index) -> None:
    program, target = _jobs[index]
    triton.compile(program.source, target=target, options=program.options)


def _inspected(index) -> Compiled:
    program, target = _jobs[index]
    result = triton.compile(program.source, target=target, options=program.options)
    binary = result.asm["cubin"]
    usage, sass = cubin.usage(binary, cubin.cuobjdump()), cubin.disassembly(binary)
    return Compiled(usage, result.metadata.num_warps, result.metadata.shared, result.asm["ptx"], sass)
