"""``pytest benches/ --cost-model``: is "auto" within 10% of the best algorithm, operator by operator?"""

from __future__ import annotations

from functools import partial

import pytest

from gcnn_kernels.backends import ALGORITHMS, choose_for_conv
from gcnn_kernels.ops.library import OPS

from . import device, layers
from .cases import conv_cases
from .measure import in_turns, rounds_within, take_more_turns

SLACK = 1.1
BUDGET = 0.3  # seconds per case
OPERATORS = layers.MODES["forward+backward"]


def _call(case, op, algorithm, precision):
    """The operator of the dispatcher on the case's tensors, without autograd."""
    layer = layers.ours(case, layers.draw(case, precision))
    x, dy = (t if t.dim() == 5 else t.unsqueeze(2) for t in (layer.x, layer.dy))
    weight = layer.weight if layer.weight.dim() == 5 else layer.weight.unsqueeze(2)
    geometry = (case.group, case.stride, case.padding, (1, 1), algorithm, "auto")
    arguments = {
        "conv": (x, weight, None),
        "conv_input_grad": (dy, weight, case.in_size),
        "conv_weight_grad": (dy, x, case.kernel),
    }[op]
    return partial(getattr(OPS, op), *arguments, *geometry)


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("case", conv_cases(), ids=lambda case: case.name)
def test_auto_is_the_best_algorithm(benchmark, case, op, precision):
    case = device.current().sized(case)
    problem = layers.problem(case, op, device.current().torch_device, precision.dtype)
    backend, chosen = choose_for_conv(problem, "auto", "auto")
    others = [a for a in ALGORITHMS if a != chosen and backend.conv.unsupported(problem, a) is None]
    if not others:
        pytest.skip(f"{chosen} is the only algorithm here")
    ours, *calls = (_call(case, op, algorithm, precision) for algorithm in ("auto", *others))
    rivals = dict(zip(others, calls, strict=True))
    rounds = rounds_within(BUDGET, [ours, *rivals.values()])
    times = in_turns(benchmark, ours, rivals, rounds)
    if not times:  # --benchmark-disable
        return
    if times["ours"] > SLACK * min(times.values()):
        take_more_turns(times, {**rivals, "ours": ours}, rounds)
    benchmark.extra_info.update(chosen=chosen, seconds=times)
    best = min(times, key=times.get)
    assert times["ours"] <= SLACK * times[best], f"auto takes {chosen}, but {best} is faster: {times}"
