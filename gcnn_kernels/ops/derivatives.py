"""Derivatives of families of operators that are closed under differentiation, as ``define`` takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from .batching import folded_into
from .library import OPS
from .weight_gradients import weight_gradients_skipped


def adjoints(name: str, adjoint: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of two maps of filters, each the derivative of the other, everything but kernels and shapes.

    Args:
        name: ``name(weight, group, *options)``.
        adjoint: ``adjoint(stack, group, in_slots, *options)``, in_slots being the weight's third size.
    """

    def save(ctx, inputs, output):
        weight, ctx.group, *ctx.options = inputs
        ctx.in_slots = weight.shape[2]

    def backward(ctx, grad):
        return getattr(OPS, adjoint)(grad, ctx.group, ctx.in_slots, *ctx.options), None, *_nones(ctx)

    def save_adjoint(ctx, inputs, output):
        _, ctx.group, _, *ctx.options = inputs

    def backward_adjoint(ctx, grad):
        return getattr(OPS, name)(grad, ctx.group, *ctx.options), None, None, *_nones(ctx)

    return (
        {"save": save, "backward": backward, "linear": 1, "batched": folded_into(0, name)},
        {"save": save_adjoint, "backward": backward_adjoint, "linear": 1, "batched": folded_into(0, adjoint)},
    )


def bilinear(
    name: str, *, after_channels: int, bias_grad: Callable[[Tensor], Tensor],
    input_sizes: Sequence[Callable[[Tensor], Any]] = (), filter_sizes: Sequence[Callable[[Tensor], Any]] = (),
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:  # fmt: skip
    """Of a product of maps and filters and of its two partial derivatives.

    With T(x, w, g) = <g, name(x, w)>, a form linear in each argument,

        name(x, w)                 = dT/dg
        name_input_grad(g, w)      = dT/dx
        name_weight_grad(g, x)     = dT/dw

    so the derivative of each with respect to one argument is one of the other two, and derivatives of any order are
    compositions of the three. The first also takes a bias, and all of them the same options, last.

    Args:
        after_channels: dimensions of the product after its channels, of which the bias has one number each.
        bias_grad: the bias's gradient, from the product's.
        input_sizes, filter_sizes: what ``name_input_grad`` and ``name_weight_grad`` take between tensors and options,
            each a function of x and of the weight.
    """
    of_input, of_weight = f"{name}_input_grad", f"{name}_weight_grad"

    def product(x, weight, options):
        return getattr(OPS, name)(x, weight, None, *options)

    def input_grad(grad, weight, x, options):
        return getattr(OPS, of_input)(grad, weight, *(size(x) for size in input_sizes), *options)

    def weight_grad(grad, x, weight, options):
        if weight_gradients_skipped():
            return None
        return getattr(OPS, of_weight)(grad, x, *(size(weight) for size in filter_sizes), *options)

    def save(ctx, inputs, output):
        x, weight, _bias, *ctx.options = inputs
        ctx.save_for_backward(x, weight)

    def backward(ctx, grad):
        x, weight = ctx.saved_tensors[:2]
        need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
        gx = input_grad(grad, weight, x, ctx.options) if need_x else None
        gweight = weight_grad(grad, x, weight, ctx.options) if need_weight else None
        gbias = bias_grad(grad) if need_bias and not weight_gradients_skipped() else None
        return gx, gweight, gbias, *_nones(ctx)

    def jvp(arguments, tangents, output):
        x, weight, _, *options = arguments
        dx, dweight, dbias = tangents[:3]
        terms = [] if dbias is None else [dbias[(..., *[None] * after_channels)].expand_as(output)]
        if dx is not None:
            terms.append(product(dx, weight, options))
        if dweight is not None:
            terms.append(product(x, dweight, options))
        return sum(terms[1:], terms[0])

    def partial(sizes, first, second):
        """Of a partial derivative: from the product's gradient and one factor to the like of the other factor."""

        def save(ctx, inputs, output):
            grad, factor, *others = inputs
            ctx.options = others[len(sizes) :]
            ctx.save_for_backward(grad, factor)

        def backward(ctx, other):
            grad, factor = ctx.saved_tensors
            need_grad, need_factor = ctx.needs_input_grad[:2]
            ggrad = first(other, factor, ctx.options) if need_grad else None
            gfactor = second(grad, other, factor, ctx.options) if need_factor else None
            return ggrad, gfactor, *[None] * len(sizes), *_nones(ctx)

        return {"save": save, "backward": backward, "linear": 2}

    return (
        {"save": save, "backward": backward, "jvp": jvp},
        partial(input_sizes, product, weight_grad),
        partial(filter_sizes, lambda weight, x, options: product(x, weight, options), input_grad),
    )


def _nones(ctx):
    return (None,) * len(ctx.options)
