"""What ``torch.utils.flop_counter.FlopCounterMode`` counts for the operators.

As for torch's own convolutions, whose fast algorithms it does not see either, these are the operations of the formula:
two for each product of the filter stack or the expanded matrix, whatever algorithm runs.
"""

from __future__ import annotations

import math

from torch.utils.flop_counter import register_flop_formula

from ..groups import point_group
from .library import OPS


@register_flop_formula(OPS.conv)
def _conv(x_shape, weight_shape, bias_shape, group, *args, out_shape, **kwargs):
    return _stack(out_shape, weight_shape)


@register_flop_formula(OPS.conv_input_grad)
def _conv_input_grad(grad_shape, weight_shape, size, group, *args, out_shape, **kwargs):
    return _stack(grad_shape, weight_shape)


@register_flop_formula(OPS.conv_weight_grad)
def _conv_weight_grad(grad_shape, x_shape, kernel, group, *args, out_shape, **kwargs):
    return _stack(grad_shape, out_shape)


def _stack(y_shape, weight_shape):
    """Every number of the output map is a sum over a filter of the stack."""
    return 2 * math.prod(y_shape) * math.prod(weight_shape[1:])


@register_flop_formula(OPS.linear)
def _linear(x_shape, weight_shape, bias_shape, group, *args, out_shape, **kwargs):
    return _matrix(x_shape, weight_shape, group)


@register_flop_formula(OPS.linear_input_grad)
def _linear_input_grad(grad_shape, weight_shape, group, *args, out_shape, **kwargs):
    return _matrix(grad_shape, weight_shape, group)


@register_flop_formula(OPS.linear_weight_grad)
def _linear_weight_grad(grad_shape, x_shape, group, *args, out_shape, **kwargs):
    return _matrix(x_shape, out_shape, group)


def _matrix(map_shape, weight_shape, group):
    return 2 * math.prod(map_shape[:-2]) * math.prod(weight_shape[:2]) * point_group(group).order ** 2
