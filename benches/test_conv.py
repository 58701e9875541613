"""Lifting and group convolutions of all data sets against the filter stack and the plain CNN's convolution."""

from __future__ import annotations

import os
from functools import cache, partial

import pytest

from . import device, layers, naive
from .cases import conv_cases
from .measure import fastest, rounds_within

BUDGET = {"forward": 0.3, "forward+backward": 0.5, "r1": 0.6}  # seconds per case

# Also against escnn and against the compiled filter stack, whose compilation takes seconds per case.
MORE_RIVALS = ("rotmnist-G-block2-conv-p4", "anhir-G-block3-conv2-p4m")

CASES = [(case, mode) for case in conv_cases() for mode in layers.MODES if mode != "r1" or case.in_discriminator]


@cache
def _faster_stack(case, precision):
    """rot90 or index gather: the one whose forward and backward pass takes less time for this filter."""
    weight = layers.draw(case, precision)["weight"].detach().requires_grad_()

    def build(build_stack):
        build_stack(weight, case.group).sum().backward()

    return fastest({build_stack: lambda b=build_stack: build(b) for build_stack in naive.STACKS.values()})


def _filter_stack(case, precision, memory_format, **options):
    stack = _faster_stack(case, precision)
    return layers.filter_stack(case, layers.draw(case, precision), stack, memory_format, **options)


@cache
def _faster_format(case, mode, precision):
    candidates = {f: _filter_stack(case, precision, f) for f in layers.FORMATS}
    return fastest({f: partial(layer.run, mode) for f, layer in candidates.items()})


def _fastest_filter_stack(case, mode, precision, **options):
    memory_format = _faster_format(case, "forward+backward" if mode == "r1" else mode, precision)
    return _filter_stack(case, precision, memory_format, **options)


@pytest.mark.parametrize(("case", "mode"), CASES, ids=[f"{case.name}-{mode}" for case, mode in CASES])
def test_conv(compare, case, mode, precision):
    case = device.current().sized(case)
    ours = layers.ours(case, layers.draw(case, precision))
    stack = _fastest_filter_stack(case, mode, precision)
    layers.check(case, mode, precision, ours, stack, naive.stack_by_rot90)

    rivals = {"naive": stack, "plain CNN": _fastest_filter_stack(case.plain, mode, precision)}
    if case.name in MORE_RIVALS and mode != "r1":  # torch.compile has no double backward
        if "ATEN_CPU_CAPABILITY" in os.environ:
            compare.note("no compiled naive: torch.compile emits unvectorised code where ATEN_CPU_CAPABILITY is set")
        else:
            rivals["compiled"] = _fastest_filter_stack(case, mode, precision, compiled=True)
        try:
            rivals["escnn"] = layers.escnn_layer(case, layers.draw(case, precision))
        except ImportError as error:
            compare.note(f"no escnn: {error}")
    timed = partial(ours.run, mode)
    rivals = {name: partial(rival.run, mode) for name, rival in rivals.items()}
    rounds = rounds_within(BUDGET[mode], [timed, *rivals.values()])
    facts = {
        "gflop": layers.stack_gflop(case, mode),
        "algorithms": "/".join(layers.chosen_algorithms(case, mode, precision)),
    }
    compare(case, mode, timed, rivals, rounds, precision, **facts)
