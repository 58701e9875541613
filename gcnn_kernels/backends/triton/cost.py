"""Choice of algorithm and tile from shapes and dtype, by a small model and a table per GPU generation.

A table (``tables/sm_90.json``, ...) holds the ceilings of the GPU, the share of them that each algorithm reaches, and
the tiles; how its numbers came is said in its ``source``, and by which version of Triton in ``triton``.
``python -m gcnn_kernels.tune`` writes a table with measured layers for the GPU at hand, which is then preferred: see
``user_table``.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch

from ..base import ALGORITHMS, accumulator
from ..problem import ConvProblem
from ..staged import chunk, padded, unsupported_group
from .arithmetic import dot_precision

_TABLES = Path(__file__).parent / "tables"
VECTOR = 16  # numbers; Triton knows of a stride's divisibility by 16 only
MOST_TAPS = 8  # along an axis; the fused Fourier kernel keeps a bit of 64 for each tap
_NEAR = math.log(2)  # a measured layer speaks for layers within a factor of two in every size


@dataclass(frozen=True, slots=True)
class Tile:
    """Sizes of one program's tile and how it runs.

    Attributes:
        rows: pixels (of a weight gradient: output channels).
        columns: channels of the map computed (of a weight gradient: input channels).
        slots: slots (of a weight gradient: entries of the filter) times which the columns are taken; direct only.
        depth: numbers summed per step.
        warps, stages: Triton's num_warps and num_stages.
    """

    rows: int
    columns: int
    slots: int
    depth: int
    warps: int
    stages: int


def generation(device: torch.device) -> str:
    """The name of the table that serves a device."""
    if device.type != "cuda":
        return "sm_80"
    major, _ = torch.cuda.get_device_capability(device)
    # Consumer Blackwell (12.x) has Ampere's tensor instructions and shared memory, not those of 10.x.
    return {9: "sm_90", 10: "sm_100"}.get(major, "sm_80")


def user_table(name: str) -> Path:
    """Where ``gcnn_kernels.tune`` writes a table: ``$GCNN_TUNE_DIR``, by default in the user's cache folder."""
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("GCNN_TUNE_DIR") or cache_home / "gcnn_kernels") / f"{name}.json"


@cache
def table(name: str) -> dict[str, Any]:
    """The shipped table of a generation, or the user's own where there is one.

    Raises:
        RuntimeError: if the user's table cannot be read; it is not passed over in silence.
    """
    own = user_table(name)
    if not own.exists():
        return json.loads((_TABLES / f"{name}.json").read_text())
    try:
        return json.loads(own.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise RuntimeError(f"the tuning table {own} cannot be read ({error}); delete it or tune again") from error


def arithmetic(dtype: torch.dtype) -> str:
    """ "16" (float16, bfloat16), "tf32", "32" or "64": what the matrix products compute in."""
    if dtype.itemsize == 2:
        return "16"
    if dtype == torch.float64:
        return "64"
    return "tf32" if dot_precision(dtype) == "tf32" else "32"


def choose_algorithm(problem: ConvProblem) -> str:
    """The algorithm with the least expected time."""
    return _choose_algorithm(problem, arithmetic(problem.dtype), tuple(candidates(problem)))


@lru_cache(maxsize=4096)
def _choose_algorithm(problem, kind, served):
    measured = (_measured(problem, kind) or {}) if problem.groups == 1 else {}
    times = {a: t for a, t in measured.items() if a in served} or {a: expected_time(problem, a, kind) for a in served}
    return min(times, key=times.get)


def candidates(problem: ConvProblem) -> list[str]:
    """The algorithms among which to choose.

    "staged" is none of them in float32 where torch is set to compute convolutions and matrix products differently:
    its products are the library's, which follow the latter setting.
    """
    served = [a for a in ALGORITHMS if unsupported_algorithm(problem, a) is None]
    if "staged" in served and problem.dtype == torch.float32:
        matmul = "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"
        if matmul != dot_precision(problem.dtype):
            served.remove("staged")
    return served


def unsupported_algorithm(problem: ConvProblem, algorithm: str) -> str | None:
    """Why an algorithm cannot serve a problem that the others may, or None."""
    if algorithm == "expand":
        return None
    if algorithm in ("fourier", "staged"):
        if reason := unsupported_group(problem, algorithm):
            return reason
    elif problem.groups > 1:
        return f"the algorithm {algorithm!r} is for groups=1, not {problem.groups}"
    if algorithm == "staged":
        return None
    if algorithm == "fourier" and problem.kernel > MOST_TAPS:
        return f"the algorithm 'fourier' serves filters up to {MOST_TAPS} x {MOST_TAPS}, not {problem.kernel}"
    planes = problem.in_slots if algorithm == "direct" else problem.group.order // 2 + 4
    counted = planes * problem.kernel**2 * math.prod(VECTOR * math.ceil(n / VECTOR) for n in problem.weight_shape[:2])
    if counted >= 2**31:
        return f"the algorithm {algorithm!r} counts the filters' numbers in int32, here are {counted}"
    return None


def _measured(problem, kind) -> dict[str, float] | None:
    """Milliseconds per algorithm of the nearest measured layer, or None where none is near."""
    same = layer_key(problem, kind)
    nearest, least = None, _NEAR
    for record in table(generation(problem.device)).get("measured", ()):
        if all(record[name] == value for name, value in same.items()):
            distance = max(abs(math.log(record[n] / max(1, value))) for n, value in layer_sizes(problem).items())
            if distance < least:
                nearest, least = record["milliseconds"], distance
    return nearest


def layer_key(problem: ConvProblem, kind: str) -> dict[str, Any]:
    """What must be equal for a measured layer to speak for another."""
    return {
        "op": problem.op,
        "group": problem.group.name,
        "lifting": problem.in_slots == 1,
        "kernel": problem.kernel,
        "arithmetic": kind,
    }


def layer_sizes(problem: ConvProblem) -> dict[str, int]:
    return {
        "in_channels": problem.in_channels,
        "out_channels": problem.out_channels,
        "pixels": problem.batch * math.prod(problem.out_size),
    }


def expected_time(problem: ConvProblem, algorithm: str, kind: str) -> float:
    """Seconds: the larger of arithmetic and memory traffic, plus the launches.

    The filter stack's products are counted for "direct" and "expand"; "fourier" has 6 of 16 (p4) or 12 of 64 (p4m) of
    them. "expand" copies maps in and out, since cuDNN wants all slots of a pixel together. "staged" is a sum:
    ``_staged_time``.
    """
    ceilings = table(generation(problem.device))
    order, slots = problem.group.order, problem.in_slots
    pixels, taps = problem.batch * math.prod(problem.out_size), problem.kernel**2
    in_numbers = problem.batch * problem.in_channels * slots * math.prod(problem.in_size)
    out_numbers = pixels * problem.out_channels * order
    flops = 2 * pixels * taps * order * slots * problem.in_channels * problem.out_channels
    traffic = in_numbers + out_numbers
    if algorithm == "fourier":
        flops *= (6 if order == 4 else 12) / order**2
    if algorithm == "staged":
        return _staged_time(problem, kind)
    if algorithm == "expand":
        traffic *= 3
    else:
        flops *= _padding(problem, choose_tile(problem, algorithm))
    share = ceilings["share"][algorithm]
    if algorithm == "fourier":
        share = share[_operator(problem)][str(order)]
    rate = ceilings["tflops"][kind] * 1e12 * share[kind]
    bandwidth = ceilings["gigabytes_per_second"] * 1e9 * ceilings["share"]["memory"]
    launches = {"direct": 2, "fourier": 2, "expand": 5}[algorithm]
    seconds = max(flops / rate, traffic * problem.dtype.itemsize / bandwidth)
    if algorithm == "fourier":  # maps that are read are copied first where their channels are no whole vectors
        read = {"conv": [(in_numbers, problem.in_channels)], "conv_input_grad": [(out_numbers, problem.out_channels)]}
        for numbers, channels in read.get(problem.op) or [*read["conv"], *read["conv_input_grad"]]:
            if channels != padded(channels, problem.dtype):
                seconds += 2 * numbers * problem.dtype.itemsize / bandwidth
                launches += 2
    return seconds + launches * ceilings["launch_microseconds"] * 1e-6


def _staged_time(problem, kind) -> float:
    """Seconds of the staged algorithm: its kernels run one after the other, so their times add.

    The coefficients are written and read once each, at the rate of memory: a chunk is larger than most GPUs' second
    level of cache. That they are gathered from the map tap by tap is not counted, since those reads find it there.
    """
    ceilings, group, dtype = table(generation(problem.device)), problem.group, problem.dtype
    read, computed, size = problem.in_channels, problem.out_channels, problem.out_size
    if problem.adjoint:
        read, computed, size = computed, read, problem.in_size
    pixels = problem.batch * math.prod(size)
    depth, columns = problem.kernel**2 * padded(read, dtype), padded(computed, dtype)
    products = group.order * depth * (_whole(columns) + _whole(2 * columns)) / 2
    if problem.op == "conv_weight_grad":
        moved, chunks = 2 * depth + 3 * columns, chunk(pixels, group.order * (depth + columns) * dtype.itemsize)
    else:
        sums = accumulator(dtype).itemsize
        moved = 2 * depth + columns * (1 + 2 * sums / dtype.itemsize)
        chunks = chunk(pixels, group.order * (depth * dtype.itemsize + columns * sums))
    filters = 2 * (group.order // 2 + 4) * depth * columns
    numbers = filters + group.order * (moved + read) * pixels
    rate = ceilings["tflops"][kind] * 1e12 * ceilings["share"]["staged"][kind]
    bandwidth = ceilings["gigabytes_per_second"] * 1e9 * ceilings["share"]["memory"]
    work = 2 * pixels * products / rate + numbers * dtype.itemsize / bandwidth
    launch = ceilings["launch_microseconds"] * 1e-6
    return launch + max(work, 4 * math.ceil(pixels / max(1, chunks)) * launch)  # launched while others run


def _whole(columns: int) -> int:
    """Columns of a product in whole tiles of the library."""
    return math.ceil(columns / 64) * 64


def _padding(problem, tile) -> float:
    """Ratio of computed to useful products: what the padded edges of the tiles add."""
    if problem.op == "conv":
        columns, rows = problem.out_channels, problem.batch * math.prod(problem.out_size)
    elif problem.op == "conv_input_grad":
        columns, rows = problem.in_channels, problem.batch * math.prod(problem.in_size)
    else:
        columns, rows = problem.in_channels, problem.out_channels
    return math.prod(math.ceil(max(1, n) / t) * t / max(1, n) for n, t in ((columns, tile.columns), (rows, tile.rows)))


def choose_tile(problem: ConvProblem, algorithm: str) -> Tile:
    """The tile for "direct" or "fourier"."""
    return _choose_tile(problem, algorithm, arithmetic(problem.dtype))


@lru_cache(maxsize=4096)
def _choose_tile(problem, algorithm, kind):
    if algorithm == "direct":
        return _direct_tile(problem, kind)
    operator = _operator(problem)
    tiles = table(generation(problem.device))["fourier"][operator][str(problem.group.order)][kind]
    columns = problem.out_channels if problem.op == "conv" else problem.in_channels
    crowded = _register_bound(problem, kind, problem.in_channels, problem.out_channels)
    if crowded and operator == "conv" and problem.group.order == 4:
        tiles = tiles[1:] or tiles  # the largest would spill
    # The first tile that the channels fill; the last one is the narrowest.
    return next((Tile(*t) for t in tiles if columns > t[1] // 2), Tile(*tiles[-1]))


def _operator(problem) -> str:
    return "weight_grad" if problem.op == "conv_weight_grad" else "conv"


def _register_bound(problem, kind: str, *channels: int) -> bool:
    """Whether addresses would make the large tiles that tensor cores want spill registers.

    They do for maps whose rows of channels are not aligned, which are read and written element by element with an
    address for each, and for maps of more than 2^31 elements, with addresses of 64 bits.
    """
    unaligned = any(c % VECTOR for c in channels)
    wide = max(math.prod(problem.in_shape), math.prod(problem.out_shape)) >= 2**31
    return kind in ("16", "tf32") and (unaligned or wide)


def _direct_tile(problem, kind) -> Tile:
    """The largest tile of the table's limits, its columns cut to the channels without much padding."""
    limits = table(generation(problem.device))["direct"][kind]
    if problem.op == "conv_weight_grad":
        thinner = 2 if _register_bound(problem, kind) else 1
        entries = problem.in_slots * problem.kernel**2
        rows = piece(problem.out_channels, 16, limits["rows"])
        columns = piece(problem.in_channels, 1, limits["columns"])
        slots = min(_power_of_two(entries), limits["columns"] // columns)
        reduced = problem.batch * math.prod(problem.out_size)
    else:
        forward = problem.op == "conv"
        channels, slots = problem.in_channels, problem.in_slots
        if forward:
            channels, slots = problem.out_channels, problem.group.order
        rows = limits["rows"]
        thinner = 2 if _register_bound(problem, kind, channels) else 1
        widest = limits["columns"] // thinner
        columns = piece(channels, max(1, 16 // slots), widest)
        slots = min(slots, widest // columns)
        reduced = problem.in_channels if forward else problem.out_channels
    if columns * slots < 16:
        columns = 16 // slots
    depth = min(limits["depth"], max(16, _power_of_two(reduced)))
    warps = max(4, min(8, thinner * rows * columns * slots // 2048))
    return Tile(rows, columns, slots, depth, warps, limits["stages"])


def _power_of_two(n: int) -> int:
    return 1 << (max(1, n) - 1).bit_length()


def piece(channels: int, least: int, most: int) -> int:
    """The power of two in which to cut channels: as few padded ones as possible, and wide ones before narrow ones."""
    sizes = [1 << e for e in range(most.bit_length()) if least <= 1 << e <= most]
    return min(sizes, key=lambda size: (math.ceil(channels / size) * size * (1 + 4 / size), -size))
