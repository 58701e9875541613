"""Grouped, depthwise, transposed and linear layers against torch's own layers with the filter stack."""

from __future__ import annotations

from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F

import gcnn_kernels as gk

from . import device, layers, naive
from .cases import layer_cases
from .measure import fastest, rounds_within

BUDGET = 0.4  # seconds per case
MODES = ("forward", "forward+backward")


def _ours(case, tensors):
    if case.kind == "linear":
        return layers.Layer(partial(gk.group_linear, group=case.group), tensors, torch.Tensor.contiguous)
    options = {"group": case.group, "stride": case.stride, "padding": case.padding, "groups": case.groups}
    function = gk.group_conv2d
    if case.kind == "transposed":
        function, options["output_padding"] = gk.group_conv_transpose2d, case.output_padding

    def as_map(t):
        return t.contiguous(memory_format=torch.channels_last_3d)

    return layers.Layer(partial(function, **options), tensors, as_map)


def _naive(case, tensors, build_stack, memory_format):
    """As users write it: the stack built in Python, torch's grouped, transposed or linear layer."""
    order = gk.point_group(case.group).order

    def apply(x, weight, bias):
        bias = bias.repeat_interleave(order)
        if case.kind == "linear":
            return F.linear(x, build_stack(weight[..., None, None], case.group).flatten(1), bias)
        stack = build_stack(weight, case.group)
        if case.kind == "grouped":
            return F.conv2d(x, stack, bias, case.stride, case.padding, 1, case.groups)
        return F.conv_transpose2d(x, stack, bias, case.stride, case.padding, case.output_padding, case.groups)

    def as_map(t):
        if case.kind == "linear":
            return t.flatten(2).contiguous()
        return t.flatten(1, 2).clone(memory_format=memory_format)

    return layers.Layer(apply, tensors, as_map)


def _stacks(case):
    beyond_the_grid = not gk.point_group(case.group).on_grid and case.kind != "linear"
    return [naive.stack_by_grid_sample] if beyond_the_grid else list(naive.STACKS.values())


@cache
def _draw(case, dtype):
    order = gk.point_group(case.group).order
    generator = torch.Generator(device.current().torch_device).manual_seed(0)

    def normal(shape):
        return torch.randn(shape, generator=generator, device=generator.device).to(dtype)

    if case.kind == "linear":
        x = normal((case.batch, *case.size, case.in_channels, order))
    else:
        x = normal((case.batch, case.in_channels, order, *case.size))
    tensors = {"x": x, "weight": normal(case.weight_shape), "bias": normal((case.out_channels,))}
    with torch.no_grad():
        y = _ours(case, {**tensors, "dy": x, "v": x, "dgx": x}).forward()[0]
    return {**tensors, "dy": normal(y.shape), "v": y, "dgx": x}


@cache
def _fastest_options(case, mode, dtype):
    formats = layers.FORMATS[:1] if case.kind == "linear" else layers.FORMATS
    candidates = [(build_stack, f) for build_stack in _stacks(case) for f in formats]
    return fastest({c: partial(_naive(case, _draw(case, dtype), *c).run, mode) for c in candidates})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", layer_cases(), ids=lambda case: case.name)
def test_other_networks(compare, case, mode, precision):
    case = device.current().sized(case)
    tensors = _draw(case, precision.dtype)
    ours, plain = _ours(case, tensors), _naive(case, tensors, *_fastest_options(case, mode, precision.dtype))
    exact = {name: t.double() for name, t in tensors.items()}
    exact = _naive(case, exact, _stacks(case)[0], torch.contiguous_format).run(mode)
    errors = [layers.error(layer.run(mode), exact) for layer in (ours, plain)]
    assert errors[0] < max(precision.tolerance, 2 * errors[1])
    timed, rivals = partial(ours.run, mode), {"naive": partial(plain.run, mode)}
    compare(case, mode, timed, rivals, rounds_within(BUDGET, [timed, *rivals.values()]), precision)
