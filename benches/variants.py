"""How many programs Triton compiles for the layers of a training run; no GPU is needed.

``python -m benches.variants food101`` counts them kernel by kernel, for the paper's batch and for others beside it;
``--cold 1 2`` compiles them with an empty cache, in one process and in two, and prints the seconds.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace

import torch

from gan.networks import PRESETS
from gcnn_kernels.backends.base import Affine
from gcnn_kernels.backends.triton import cost, norm, pool

from . import layers
from .ahead_of_time import Program, cold, generation, recorded, run_conv
from .cases import BATCHES, MapCase, convolutions, maps


def programs(dataset: str, batch: int, dtype: torch.dtype = torch.bfloat16) -> dict[tuple, Program]:
    """The distinct programs of a G-CNN generator and discriminator, forward and backward, on an H100."""
    group, launched = PRESETS[dataset].group, []
    with generation("sm_90"):
        for case in convolutions(dataset, group):
            for op in layers.MODES["forward+backward"]:
                problem = layers.problem(replace(case, batch=batch), op, "meta", dtype)
                algorithm = cost.choose_algorithm(problem)
                folded = case.activation, case.statistics
                launched += recorded(algorithm, run_conv, problem, algorithm, case.bias, *folded)
        for case in maps(dataset, group):
            launched += recorded(case.kind, _run_map, replace(case, batch=batch), dtype)
    return {program.key: program for program in launched}


def _run_map(case: MapCase, dtype: torch.dtype) -> None:
    """A norm with ReLU or a maximum over the group, and what follows from it backward, in channels_last_3d."""
    if case.kind == "spatial pool":  # torch's own kernels on GPUs
        return
    x = torch.empty(case.shape, dtype=dtype, device="meta", memory_format=torch.channels_last_3d)
    if case.kind == "pool":
        value, index = pool.group_max(x)
        pool.group_max_scatter(value, index, x.shape[2])
        pool.group_max_gather(x, index)
    else:
        shape = (case.batch, case.channels) if case.conditional else (case.channels,)
        parameter = torch.empty(shape, dtype=dtype if case.conditional else torch.float32, device="meta")
        affine = Affine(parameter, parameter, 0.0)
        _, mean, var = norm.norm_train(x, affine, 1e-5)
        norm.norm_backward(x, x, mean, var, affine, x.numel() // case.channels, 1e-5)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.variants", description=__doc__.split("\n\n")[0])
    parser.add_argument("dataset", choices=BATCHES, nargs="?", default="food101")
    parser.add_argument("--more-batches", type=int, nargs="*", default=[48, 37])
    parser.add_argument("--cold", type=int, nargs="*", default=[], metavar="PROCESSES", help="compile all of them")
    options = parser.parse_args(arguments)
    found = programs(options.dataset, BATCHES[options.dataset])
    for name, number in Counter(program.name for program in found.values()).most_common():
        print(f"{number:3} {name}")
    print(f"{len(found):3} at batch {BATCHES[options.dataset]}")
    for batch in options.more_batches:
        more = programs(options.dataset, batch).keys() - found.keys()
        print(f"{len(more):3} more at batch {batch}")
    for processes in options.cold:
        clock, processor = cold(list(found.values()), "sm_90", processes)
        print(f"compiled in {processes} processes: {processor:.0f} s of processor time, {clock:.0f} s by the clock")


if __name__ == "__main__":
    main()
