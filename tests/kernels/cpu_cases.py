"""Convolutions of the cpu backend's kernels, against the reference backend in float64."""

from __future__ import annotations

from dataclasses import replace

import torch

from gcnn_kernels.backends import BACKENDS, ConvProblem
from gcnn_kernels.backends.cpu import cost, kernels
from gcnn_kernels.groups import point_group

REFERENCE = BACKENDS["reference"].conv.algorithms["expand"]


def draw(group, channels, k, size, groups=1, dtype=torch.float32, **geometry):
    """A problem with (in, out) channels, and its input, filter, bias and output gradient."""
    torch.manual_seed(0)
    order, (cin, cout) = point_group(group).order, channels
    x = torch.randn(2, cin, order, *size, dtype=dtype).contiguous(memory_format=torch.channels_last_3d)
    weight, bias = torch.randn(cout, cin // groups, order, k, k, dtype=dtype), torch.randn(cout, dtype=dtype)
    problem = ConvProblem.of(
        "conv", x.shape, weight.shape, group=point_group(group), dtype=dtype, device=x.device, groups=groups, **geometry
    )
    return problem, x, weight, bias, torch.randn(problem.out_shape, dtype=dtype)


def check(form, problem, x, weight, bias, grad):
    """All three operators, which the cost model computes in this form."""
    tolerance = 2e-6 if problem.dtype == torch.float32 else 1e-14
    for op, arguments in {
        "conv": (x, weight, bias),
        "conv_input_grad": (grad, weight),
        "conv_weight_grad": (grad, x),
    }.items():
        problem = replace(problem, op=op)
        assert cost.form(problem) == form
        found = getattr(kernels, op)(problem, *arguments).double()
        exact = getattr(REFERENCE, op)(replace(problem, dtype=torch.float64), *(t.double() for t in arguments))
        assert (found - exact).norm() <= tolerance * exact.norm(), op
