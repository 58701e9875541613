"""How many programs Triton compiles for the convolutions of a training run; no GPU is needed.

``python -m benches.variants food101`` counts them kernel by kernel, for the paper's batch and for others beside it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace

import torch

from gcnn_kernels.backends.triton import cost

from . import layers
from .ahead_of_time import Program, generation, recorded, run_conv
from .cases import BATCHES, conv_cases


def programs(dataset: str, batch: int, dtype: torch.dtype = torch.bfloat16) -> dict[tuple, Program]:
    """The distinct programs of a G-CNN generator and discriminator, forward and backward, on an H100."""
    found = {}
    with generation("sm_90"):
        for case in conv_cases():
            if not any(name.startswith(dataset) for name in (case.name, *case.shared_by)):
                continue
            for op in layers.MODES["forward+backward"]:
                problem = layers.problem(replace(case, batch=batch), op, "meta", dtype)
                algorithm = cost.choose_algorithm(problem)
                for program in recorded(algorithm, run_conv, problem, algorithm):
                    found[program.key] = program
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.variants", description=__doc__.split("\n\n")[0])
    parser.add_argument("dataset", choices=BATCHES, nargs="?", default="food101")
    parser.add_argument("--more-batches", type=int, nargs="*", default=[48, 37])
    options = parser.parse_args(arguments)
    found = programs(options.dataset, BATCHES[options.dataset])
    for name, number in Counter(program.name for program in found.values()).most_common():
        print(f"{number:3} {name}")
    print(f"{len(found):3} at batch {BATCHES[options.dataset]}")
    for batch in options.more_batches:
        more = programs(options.dataset, batch).keys() - found.keys()
        print(f"{len(more):3} more at batch {batch}")


if __name__ == "__main__":
    main()
