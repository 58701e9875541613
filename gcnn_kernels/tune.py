"""``python -m gcnn_kernels.tune``: measures the triton backend's algorithms on the GPU at hand and writes its table.

For the layers of the GANs of Dey et al. (2021), Tables 5 to 12, and each operator it times "direct", "fourier",
"staged" and "expand", as far as they serve it. ``algorithm="auto"`` then takes the fastest of the nearest measured
layer. The table is a copy of the shipped one with the measurements added, and lies in the user's cache folder or
``$GCNN_TUNE_DIR``; nothing that was installed is changed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from .backends import BACKENDS, ConvProblem
from .backends.base import LazyModule
from .backends.triton import cost
from .groups import point_group

# group, whether it lifts, channels in, channels out, side of the plane, batch
Layer = tuple[str, bool, int, int, int, int]
LAYERS: list[Layer] = [
    *(("p4", True, ci, co, n, 64) for ci, co, n in ((1, 64, 28), (3, 64, 32), (128, 256, 7), (1024, 256, 8))),
    *(("p4", False, ci, co, n, 64) for ci, co, n in ((64, 128, 28), (128, 256, 14), (256, 128, 14), (128, 64, 28))),
    *(("p4", False, ci, co, n, 64) for ci, co, n in ((256, 192, 16), (192, 128, 32), (128, 96, 64), (64, 64, 32))),
    *(("p4", False, ci, co, n, 64) for ci, co, n in ((64, 1, 28), (96, 3, 64))),
    *(("p4m", True, ci, co, n, 32) for ci, co, n in ((3, 11, 128), (128, 181, 8))),
    *(("p4m", False, ci, co, n, 32) for ci, co, n in ((181, 181, 8), (181, 90, 16), (90, 90, 16), (90, 45, 32))),
    *(("p4m", False, ci, co, n, 32) for ci, co, n in ((45, 45, 32), (45, 22, 64), (22, 22, 64), (22, 11, 128))),
    *(("p4m", False, ci, co, n, 32) for ci, co, n in ((11, 11, 128), (11, 3, 128))),
]
OPERATORS = ("conv", "conv_input_grad", "conv_weight_grad")
DTYPES = torch.bfloat16, torch.float32
testing: LazyModule = LazyModule("triton.testing")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gcnn_kernels.tune", description=__doc__.split("\n\n")[0])
    parser.add_argument("--output", type=Path, help="folder of the table (default: $GCNN_TUNE_DIR or the user's cache)")
    options = parser.parse_args(arguments)
    reason = BACKENDS["triton"].unavailable()
    if reason is None and not torch.cuda.is_available():
        reason = "Triton's interpreter is on"
    if reason is not None:
        print(f"gcnn_kernels.tune: nothing can be measured here: {reason}", file=sys.stderr)
        return 1

    device = torch.device("cuda", torch.cuda.current_device())
    name = cost.generation(device)
    path = options.output / f"{name}.json" if options.output else cost.user_table(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        print(f"gcnn_kernels.tune: {path.parent} cannot be written; choose a folder with --output", file=sys.stderr)
        return 1
    tune(device, path)
    print(f"wrote {path}")
    return 0


def tune(device: torch.device, path: Path) -> None:
    """Measures, and writes the table anew after every layer, so that an interrupted run keeps what it has measured."""
    table = dict(cost.table(cost.generation(device)))
    table["gpu"] = torch.cuda.get_device_name(device)
    table["source"] = (
        f"Layers in 'measured' were timed by gcnn_kernels.tune on {table['gpu']}, torch {torch.__version__}, "
        f"{time.strftime('%Y-%m-%d')}; all else is as shipped."
    )
    table["measured"] = []
    draft = path.with_suffix(".tmp")
    for record in measured(device):
        print(record, flush=True)
        table["measured"].append(record)
        draft.write_text(json.dumps(table, indent=1) + "\n")
        draft.replace(path)


def measured(device: torch.device) -> Iterator[dict[str, Any]]:
    """A record for every layer, operator and arithmetic: what it is, and milliseconds per algorithm.

    An algorithm that fails, for want of memory for instance, is reported and left out.
    """
    for dtype in DTYPES:
        kind = cost.arithmetic(dtype)
        for layer in LAYERS:
            for op in OPERATORS:
                problem = layer_problem(op, layer, dtype, device)
                times = {}
                for algorithm in cost.candidates(problem):
                    try:
                        times[algorithm] = milliseconds(problem, algorithm)
                    except RuntimeError as error:
                        print(f"gcnn_kernels.tune: {algorithm} failed for {problem}: {error}", file=sys.stderr)
                if times:
                    yield {**cost.layer_key(problem, kind), **cost.layer_sizes(problem), "milliseconds": times}


def layer_problem(op: str, layer: Layer, dtype: torch.dtype, device: torch.device) -> ConvProblem:
    """The 3x3 convolution of one of :data:`LAYERS`."""
    group, lifting, in_channels, out_channels, size, batch = layer
    point = point_group(group)
    slots = 1 if lifting else point.order
    return ConvProblem.of(
        op, (batch, in_channels, slots, size, size), (out_channels, in_channels, slots, 3, 3),
        group=point, padding=(1, 1), dtype=dtype, device=device,
    )  # fmt: skip


def milliseconds(problem: ConvProblem, algorithm: str) -> float:
    """Of one operator in channels_last_3d on random numbers; the median of what fits into a fifth of a second."""
    conv, last = BACKENDS["triton"].conv, torch.channels_last_3d
    assert conv is not None
    kernels = conv.algorithms[algorithm]
    make: dict[str, Any] = {"dtype": problem.dtype, "device": problem.device}
    x = torch.randn(problem.in_shape, **make).contiguous(memory_format=last)
    y = torch.randn(problem.out_shape, **make).contiguous(memory_format=last)
    weight = torch.randn(problem.weight_shape, **make)
    call = {
        "conv": lambda: kernels.conv(problem, x, weight, None),
        "conv_input_grad": lambda: kernels.conv_input_grad(problem, y, weight),
        "conv_weight_grad": lambda: kernels.conv_weight_grad(problem, y, x),
    }[problem.op]
    return round(testing.do_bench(call, warmup=20, rep=200, return_mode="median"), 4)


if __name__ == "__main__":
    sys.exit(main())
