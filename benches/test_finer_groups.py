"""Layers over C8 and D8 against rotate, stack and convolve, and against the plain CNN's convolution."""

from __future__ import annotations

from functools import partial

import pytest

from . import device, layers, naive
from .cases import finer_cases
from .measure import fastest, rounds_within
from .test_conv import BUDGET

CASES = [(case, mode) for case in finer_cases() for mode in ("forward", "forward+backward")]


def _fastest(case, mode, precision, build_stack):
    tensors = layers.draw(case, precision)
    candidates = {f: layers.filter_stack(case, tensors, build_stack, f) for f in layers.FORMATS}
    return candidates[fastest({f: partial(layer.run, mode) for f, layer in candidates.items()})]


@pytest.mark.parametrize(("case", "mode"), CASES, ids=[f"{case.name}-{mode}" for case, mode in CASES])
def test_finer_groups(compare, case, mode, precision):
    case = device.current().sized(case)
    ours = layers.ours(case, layers.draw(case, precision))
    stack = _fastest(case, mode, precision, naive.stack_by_grid_sample)
    layers.check(case, mode, precision, ours, stack, naive.stack_by_grid_sample)

    rivals = {"naive": stack, "plain CNN": _fastest(case.plain, mode, precision, naive.stack_by_rot90)}
    timed, rivals = partial(ours.run, mode), {name: partial(rival.run, mode) for name, rival in rivals.items()}
    rounds = rounds_within(BUDGET[mode], [timed, *rivals.values()])
    compare(case, mode, timed, rivals, rounds, precision, gflop=layers.stack_gflop(case, mode))
