"""What the instructions of a compiled kernel say of its speed, without a GPU.

``python -m benches.sass`` compiles the convolution kernels of the triton backend for the H100 and prints for the main
loop of each (for the whole kernel where there are no products) what it has per matrix instruction, and how many clocks
of a multiprocessor one iteration of a block takes of each resource, by this model:

    issue      4 instructions of a warp per clock
    tensor     2,048 multiply-adds of 16-bit numbers per clock
    shared     128 bytes of shared memory per clock, operands that the matrix instructions read there included
    L2         64 bytes per clock between multiprocessor and second-level cache, as if no load met the first-level one
    barriers   BARRIER clocks each, in which the block's warps wait for the last one; other blocks fill them

The resources work at the same time, so the largest is a bound on the speed and "share" the part of the tensor cores'
peak that remains. Latency is not in the model: it takes off more, the less there is to run meanwhile.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from dataclasses import dataclass

import torch

from gcnn_kernels import point_group
from gcnn_kernels.backends import ConvProblem

from .ahead_of_time import Compiled, compiled, generation, recorded, run_conv

BARRIER = 30  # clocks; measured ones for a block of few warps are 20 to 40
WARPS, REGISTERS, SHARED_MEMORY = 64, 65536, 227 * 1024  # of a multiprocessor of the H100
_INSTRUCTION = re.compile(r"/\*[0-9a-f]+\*/\s+(@!?U?P\w+\s+)?([A-Z][A-Z0-9_.a-z]*)\s*([^;]*);")
_NEVER = "@!PT"  # the predicate of instructions that are issued and do nothing
_WIDTHS = {".U8": 1, ".S8": 1, ".U16": 2, ".S16": 2, ".64": 8, ".128": 16}


@dataclass(frozen=True)
class Loop:
    """What one warp executes in one iteration; bytes are those of all its lanes.

    Attributes:
        products: multiply-adds of its matrix instructions.
        global_widths: bytes per lane -> how many loads, stores and asynchronous copies of global memory have them.
    """

    instructions: int
    matrix_instructions: int
    products: int
    barriers: int
    shared_instructions: int
    shared_bytes: int
    global_widths: Counter

    @property
    def global_bytes(self) -> int:
        return sum(32 * width * count for width, count in self.global_widths.items())


def main_loop(sass: str) -> Loop:
    """The innermost loop with matrix instructions; the whole kernel if there is none."""
    lines = sass.splitlines()
    labels = {line[:-1]: n for n, line in enumerate(lines) if line.startswith(".L_") and line.endswith(":")}
    jumps = [(n, found[1]) for n, line in enumerate(lines) if (found := re.search(r"\bBRA `\((\.L_\w+)\)", line))]
    loops = [lines[labels[label] : n] for n, label in jumps if labels[label] < n]
    loops = [body for body in loops if any("MMA." in line for line in body)]
    return count(min(loops, key=len, default=lines))


def count(lines: list[str]) -> Loop:
    issued = [m.groups(default="") for line in lines if (m := _INSTRUCTION.search(line)) and m[2] != "NOP"]
    found = [(opcode, operands) for predicate, opcode, operands in issued if predicate.strip() != _NEVER]
    shapes = [shape for opcode, operands in found if (shape := _matrix(opcode, operands))]
    shared = [opcode for opcode, _ in found if opcode.startswith(("LDS", "STS"))]
    moved = [opcode for opcode, _ in found if opcode.startswith(("LDG.", "STG.", "LDGSTS."))]
    moved_to_shared = [opcode for opcode in moved if opcode.startswith("LDGSTS")]
    return Loop(
        len(issued), len(shapes), sum(products for products, _ in shapes),
        sum(opcode.startswith("BAR.") for opcode, _ in found), len(shared),
        sum(32 * _width(opcode) for opcode in shared + moved_to_shared) + sum(read for _, read in shapes),
        Counter(map(_width, moved)),
    )  # fmt: skip


def _matrix(opcode, operands):
    """Multiply-adds of a matrix instruction and the bytes of shared memory that it reads, per warp; or None."""
    if warpgroup := re.match(r"HGMMA\.(\d+)x(\d+)x(\d+)", opcode):
        m, n, k = map(int, warpgroup.groups())
        from_registers = operands.split(",")[1].strip().startswith("R")
        return m * n * k // 4, 2 * k * (n + (0 if from_registers else m)) // 4
    if warp := re.match(r"HMMA\.(16)(8)(8|16)\b", opcode):
        m, n, k = map(int, warp.groups())
        return m * n * k, 0
    return None


def _width(opcode):
    if opcode.startswith(("LDSM", "STSM")):
        matrices = opcode.rsplit(".", 1)[1]  # "4", "2", or "M88" of one
        return 4 * int(matrices) if matrices.isdigit() else 4
    return next((width for name, width in _WIDTHS.items() if name in opcode), 4)


def resident(result: Compiled) -> int:
    """Blocks that a multiprocessor holds at once."""
    threads = 32 * result.warps
    registers = -(-result.usage.registers // 8) * 8 * threads
    shared = SHARED_MEMORY // (result.shared + 1024)
    return max(1, min(REGISTERS // registers, shared, WARPS // result.warps))


def clocks(loop: Loop, warps: int, blocks: int) -> dict[str, float]:
    """Clocks of each resource for an iteration of a block of so many warps, so many blocks being resident."""
    return {
        "issue": loop.instructions * warps / 4,
        "tensor": loop.products * warps / 2048,
        "shared": loop.shared_bytes * warps / 128,
        "L2": loop.global_bytes * warps / 64,
        "barriers": loop.barriers * BARRIER / blocks,
    }


def share(found: dict[str, float]) -> float:
    """The most that is left of the tensor cores' peak."""
    return found["tensor"] / max(found.values())


def layer(op: str, group: str, in_channels: int, out_channels: int, size: int = 32) -> ConvProblem:
    """A 3 x 3 group convolution in bfloat16."""
    point = point_group(group)
    x_shape = 32, in_channels, point.order, size, size
    weight_shape = out_channels, in_channels, point.order, 3, 3
    return ConvProblem.of(op, x_shape, weight_shape, group=point, padding=(1, 1), dtype=torch.bfloat16,
                          device=torch.device("meta"))  # fmt: skip


def kernels(problem: ConvProblem, algorithm: str) -> dict[str, Compiled]:
    """The compiled kernels of an operator that work on maps, for the H100."""
    with generation("sm_90"):
        programs = {p.key: p for p in recorded(algorithm, run_conv, problem, algorithm)}.values()
    names = "conv_kernel", "weight_grad_kernel", "gather_kernel", "scatter_kernel"
    wanted = [p for p in programs if p.name.startswith(names) and not p.of_filters]
    return {p.name.split()[0]: result for p, result in zip(wanted, compiled(wanted, "sm_90"), strict=True)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.sass", description=__doc__.split("\n\n")[0])
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 90, 181], help="of both maps")
    parser.add_argument("--algorithms", nargs="+", default=["fourier", "staged", "direct"])
    options = parser.parse_args(arguments)
    print(f"{'kernel':58} instr matrix bar shared widths of global accesses | clocks | share")
    for channels in options.channels:
        for algorithm in options.algorithms:
            for group in ("p4", "p4m"):
                for op in ("conv", "conv_weight_grad"):
                    for name, result in kernels(layer(op, group, channels, channels), algorithm).items():
                        _print(f"{algorithm} {op} {group} {channels} {name}", result)


def _print(name, result):
    loop, blocks = main_loop(result.sass), resident(result)
    found = clocks(loop, result.warps, blocks)
    widths = ", ".join(f"{n} x {width}" for width, n in sorted(loop.global_widths.items()))
    spent = ", ".join(f"{resource} {number:.0f}" for resource, number in found.items())
    print(
        f"{name:58} {loop.instructions:5} {loop.matrix_instructions:6} {loop.barriers:3} {loop.shared_instructions:6} "
        f"{widths} | {result.warps} warps, {blocks} blocks, {result.usage.registers} registers, "
        f"{result.usage.spilled} spilled: {spent} | {share(found):.0%}",
        flush=True,
    )


if __name__ == "__main__":
    main()
