"""What the cost model of the triton backend expects of each algorithm for the layers of Dey et al. 2021.

``python -m benches.predicted`` prints the table of docs/gpu.md: for every group convolution of a network, in bfloat16
at the paper's batch, the microseconds of forward and backward together, those of the filter stack's ordinary
convolutions beside them (no maps copied, the stack's own channels padded to whole vectors), and what bounds the
fastest. Nothing in it is measured.
"""

from __future__ import annotations

import argparse
import copy
import math
from unittest.mock import patch

import torch

from gcnn_kernels.backends.triton import cost

from . import layers
from .ahead_of_time import generation
from .cases import ConvCase, at_paper_batch, conv_cases

CEILINGS = {"arithmetic": "tflops", "memory": "gigabytes_per_second", "launches": "launch_microseconds"}
NETWORKS = ("anhir", "food101", "cifar10", "rotmnist")
GRAPH_LAUNCH = 2  # microseconds between the kernels of a CUDA graph; a guess


def seconds(case: ConvCase, algorithm: str) -> float:
    """Forward and backward; infinite where the algorithm cannot serve."""
    problems = [layers.problem(case, op, "meta", torch.bfloat16) for op in layers.MODES["forward+backward"]]
    if algorithm == "stack":
        return sum(stack_seconds(case) for _ in problems)
    served = all(algorithm in cost.candidates(problem) for problem in problems)
    return sum(cost.expected_time(problem, algorithm, "16") for problem in problems) if served else math.inf


def stack_seconds(case: ConvCase) -> float:
    """One operator of the filter stack: expands the filters (or sums their gradients), then calls cuDNN."""
    ceilings = cost.table("sm_90")
    inputs, outputs = (8 * math.ceil(n / 8) for n in (case.in_channels * case.in_slots, case.out_channels * case.order))
    pixels = case.batch * math.prod(case.out_size)
    numbers = case.batch * inputs * math.prod(case.in_size) + pixels * outputs
    flops = 2 * pixels * inputs * outputs * case.kernel**2
    arithmetic = flops / (ceilings["tflops"]["16"] * 1e12 * ceilings["share"]["expand"]["16"])
    memory = 2 * numbers / (ceilings["gigabytes_per_second"] * 1e9 * ceilings["share"]["memory"])
    return max(arithmetic, memory) + 2 * ceilings["launch_microseconds"] * 1e-6


def bound(case: ConvCase, algorithm: str, ceilings: dict) -> str:
    """The ceiling that would speed it up most if it were twice as good."""

    def with_better(name):
        better = copy.deepcopy(ceilings)
        if name == "launch_microseconds":
            better[name] /= 2
        elif name == "tflops":
            better[name] = {kind: 2 * rate for kind, rate in better[name].items()}
        else:
            better[name] *= 2
        with patch.object(cost, "table", lambda name: better):
            return seconds(case, algorithm)

    return min(CEILINGS, key=lambda what: with_better(CEILINGS[what]))


def rows(launch_microseconds: float = GRAPH_LAUNCH):
    """(case, microseconds per algorithm and of "stack", the fastest algorithm, what bounds it)."""
    with generation("sm_90"):
        ceilings = cost.table("sm_90") | {"launch_microseconds": launch_microseconds}
        with patch.object(cost, "table", lambda name: ceilings):
            for case in map(at_paper_batch, conv_cases()):
                if case.in_slots == 1 or case.kernel == 1 or not case.name.startswith(NETWORKS):
                    continue
                times = {a: 1e6 * seconds(case, a) for a in ("fourier", "staged", "direct", "expand", "stack")}
                best = min(set(times) - {"stack"}, key=times.get)
                yield case, times, best, bound(case, best, ceilings)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.predicted", description=__doc__.split("\n\n")[0])
    parser.add_argument("--launch", type=float, default=GRAPH_LAUNCH, help="microseconds per launch (eager: about 10)")
    options = parser.parse_args(arguments)
    print("| layer | | fourier | staged | direct | expand | stack | fastest | stack / fastest |")
    print("|---|---|--:|--:|--:|--:|--:|---|--:|")
    for case, times, best, limit in rows(options.launch):
        columns = " | ".join(f"{times[a]:.0f}" for a in ("fourier", "staged", "direct", "expand", "stack"))
        print(f"| {case.name} | {case} | {columns} | {best}, {limit} | {times['stack'] / times[best]:.1f} |")


if __name__ == "__main__":
    main()
