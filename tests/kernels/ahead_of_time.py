"""Triton programs as the launcher would compile them, compiled without a GPU."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass
from typing import NamedTuple

import cubin
import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

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
    """What the launcher would compile for one launch."""

    name: str
    source: ASTSource
    options: dict
    uses_tensor_cores: bool

    @property
    def key(self):
        return self.source.hash(), tuple(sorted(self.options.items()))


class Compiled(NamedTuple):
    usage: cubin.Usage
    warps: int
    shared: int  # bytes of shared memory
    ptx: str


def program(name, kernel, args, kwargs) -> Program:
    """The program of a launch. Numbers equal to 1 and divisible by 16 are known as such, as the launcher has it."""
    given = dict(zip(kernel.arg_names, args, strict=False)) | {k: v for k, v in kwargs.items() if k in kernel.arg_names}
    signature, constants, attributes = {}, {}, {}
    for position, (argument, parameter) in enumerate(zip(kernel.arg_names, kernel.params, strict=True)):
        value = given[argument]
        if parameter.is_constexpr or (isinstance(value, int) and value == 1):
            signature[argument], constants[argument] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[argument], attributes[(position,)] = POINTERS[value.dtype], [["tt.divisibility", 16]]
        elif isinstance(value, int):
            signature[argument] = "i32" if -(2**31) <= value < 2**31 else "i64"
            if value % 16 == 0:
                attributes[(position,)] = [["tt.divisibility", 16]]
        else:
            signature[argument] = "fp32"
    options = {name: kwargs[name] for name in ("num_warps", "num_stages", "enable_fp_fusion") if name in kwargs}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    products = constants.get("DOT") == tl.bfloat16 or constants.get("PRECISION") == "tf32"
    return Program(f"{kernel.__name__} of {name}", source, options, products)


def compiled(programs: list[Program], architecture: str) -> list[Compiled]:
    """Compiles programs on all cores for a GPU generation such as "sm_90"."""
    global _jobs
    target = GPUTarget("cuda", int(architecture.removeprefix("sm_")), 32)
    _jobs = [(program, target) for program in programs]
    # Forked, since a kernel cannot be pickled.
    with multiprocessing.get_context("fork").Pool(min(len(_jobs), os.cpu_count() or 1)) as pool_of_processes:
        return pool_of_processes.map(_compile, range(len(_jobs)), chunksize=1)


def _compile(index) -> Compiled:
    program, target = _jobs[index]
    result = triton.compile(program.source, target=target, options=program.options)
    usage = cubin.usage(result.asm["cubin"], cubin.cuobjdump())
    return Compiled(usage, result.metadata.num_warps, result.metadata.shared, result.asm["ptx"])
