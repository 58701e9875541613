"""Lifting and group convolutions of all data sets against the filter stack and the plain CNN's convolution."""

from __future__ import annotations

from functools import cache, partial

import pytest

from . import layers, naive
from .cases import conv_cases
from .measure import fastest, rounds_within

BUDGET = {"forward": 0.3, "forward+backward": 0.5, "r1": 0.6}  # seconds per case

# Also against escnn and against the compiled filter stack, whose compilation takes seconds per case.
MORE_RIVALS = ("rotmnist-G-block2-conv-p4", "anhir-G-block3-conv2-p4m")

CASES = [(case, mode) for case in conv_cases() for mode in layers.MODES if mode != "r1" or case.in_discriminator]


@cache
def _faster_stack(case):
    """rot90 or index gather: the one whose forward and backward pass takes less time for this filter."""
    weight = layers.draw(case)["weight"].detach().requires_grad_()

    def build(build_stack):
        build_stack(weight, case.group).sum().backward()

    return fastest({build_stack: lambda b=build_stack: build(b) for build_stack in naive.STACKS.values()})


@cache
def _faster_format(case, mode):
    candidates = {f: layers.filter_stack(case, layers.draw(case), _faster_stack(case), f) for f in layers.FORMATS}
    return fastest({f: lambda layer=layer: layer.run(mode) for f, layer in candidates.items()})


def _fastest_filter_stack(case, mode, **options):
    memory_format = _faster_format(case, "forward+backward" if mode == "r1" else mode)
    return layers.filter_stack(case, layers.draw(case), _faster_stack(case), memory_format, **options)


@pytest.mark.parametrize(("case", "mode"), CASES, ids=[f"{case.name}-{mode}" for case, mode in CASES])
def test_conv(compare, case, mode):
    ours, stack = layers.ours(case, layers.draw(case)), _fastest_filter_stack(case, mode)
    layers.check(case, mode, ours, stack, naive.stack_by_rot90)

    rivals = {"naive": stack, "plain CNN": _fastest_filter_stack(case.plain, mode)}
    if case.name in MORE_RIVALS and mode != "r1":  # torch.compile has no double backward
        rivals["compiled"] = _fastest_filter_stack(case, mode, compiled=True)
        try:
            rivals["escnn"] = layers.escnn_layer(case, layers.draw(case))
        except ImportError as error:
            compare.note(f"no escnn: {error}")
    timed = partial(ours.run, mode)
    rivals = {name: partial(rival.run, mode) for name, rival in rivals.items()}
    rounds = rounds_within(BUDGET[mode], [timed, *rivals.values()])
    algorithms = "/".join(layers.chosen_algorithms(case, mode))
    compare(case, mode, timed, rivals, rounds, gflop=layers.stack_gflop(case, mode), algorithms=algorithms)
