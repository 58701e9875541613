"""The dispatcher library ``gcnn_kernels``, and what all of its operators share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import _C
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad

LIBRARY = torch.library.Library("gcnn_kernels", "DEF")
OPS = torch.ops.gcnn_kernels

_DEVICES = {_C.DispatchKey.CPU, _C.DispatchKey.CUDA}
_AUTOCAST_KEYS = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA"}


def define(
    schema: str,
    kernel: Callable,
    fake: Callable,
    *,
    save: Callable | None = None,
    backward: Callable | None = None,
    linear: int = 0,
    jvp: Callable | None = None,
    composed: Callable | None = None,
    batched: Callable | None = None,
    autocast: bool = False,
) -> None:
    """Registers one functional operator for all devices.

    The derivatives are torch's own kind: the operator's autograd kernel is one node of the graph, and below it the
    operator is called again. So ``torch.func``'s transforms compose with it as with any operator of torch.

    Args:
        schema: in the dispatcher's language, without namespace.
        kernel: the implementation; it dispatches to a backend itself.
        fake: the implementation on meta tensors.
        save, backward: as ``setup_context`` and ``backward`` of ``torch.autograd.Function``.
        linear: forward mode of an operator that is linear in each of its first arguments, so many.
        jvp: forward mode of any other: ``jvp(arguments, tangents, output)``, the tangent of the (first) output in
            differentiable operators. Tangents are one for each argument, None where it does not vary.
        composed: instead of these, the operator's formula in differentiable operators of torch. It takes the operator's
            place in forward mode and where ``torch.func`` differentiates.
        batched: the batching rule of ``torch.vmap``, as ``torch.library.register_vmap`` takes it.
        autocast: whether floating-point tensors are cast to the autocast dtype (as torch does for convolutions).
    """
    name = schema.split("(", 1)[0]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"gcnn_kernels::{name}", fake, lib=LIBRARY)
    if autocast:
        for device_type, key in _AUTOCAST_KEYS.items():
            LIBRARY.impl(name, _autocast_kernel(name, device_type), key)
    if backward is not None:
        operator = getattr(OPS, name).default
        jvp = jvp or _multilinear(operator, linear)
        differentiate = _autograd_kernel(operator, kernel, save, backward, jvp, composed)
        LIBRARY.impl(name, differentiate, "Autograd", with_keyset=True)
    if batched is not None:
        torch.library.register_vmap(f"gcnn_kernels::{name}", batched, lib=LIBRARY)


def _autograd_kernel(operator, kernel, save, backward, jvp, composed):
    """What the dispatcher calls first: it hands on to the kernels and puts a node for ``backward`` into the graph.

    ``torch.library.register_autograd`` would do for reverse mode outside of ``torch.func``, no further.
    """
    after_autograd = _C._after_ADInplaceOrView_keyset
    views = _C.DispatchKeySet(_C.DispatchKey.ADInplaceOrView)  # a kernel's output counts as new even if it is a view
    defaults = [a.default_value for a in operator._schema.arguments]

    def keep(ctx, *args):
        *args, (output, ctx.tangent) = args
        save(ctx, args, output)
        return output

    def backward_of_all(ctx, *grads):
        return *backward(ctx, *grads), None  # the last argument is the pair of output and tangent

    def tangents_of_all(ctx, *_):
        return (ctx.tangent, *[None] * (len(operator._schema.returns) - 1))

    # Its apply is the plain one. That of torch.autograd.Function would hand the node to torch.func as a whole, which
    # need not know it: the operators called here and in ``backward`` take part in its transforms.
    node = type(
        f"{operator._opname}_node",
        (torch.autograd.function._SingleLevelFunction,),
        {
            "forward": staticmethod(keep),
            "backward": staticmethod(backward_of_all),
            "jvp": staticmethod(tangents_of_all),
        },
    )

    def autograd(keyset, *args):
        tangents = None if forward_ad._current_level < 0 else _tangents(args)
        backwards = _C.is_grad_enabled() and _C._any_requires_grad(*args)
        transformed = _C._are_functorch_transforms_active()
        if composed is not None and (tangents is not None or (backwards and transformed)):
            return composed(*args)
        below = keyset & after_autograd
        with _C._AutoDispatchBelowAutograd(), _C._ExcludeDispatchKeyGuard(views):
            direct = below.highestPriorityTypeId() in _DEVICES  # no mode, subclass or transform stands between
            output = kernel(*args) if direct else operator.redispatch(below, *args)
        if tangents is None and not backwards:
            return output
        tangent = None if tangents is None else jvp(_primals(args), tangents, output)
        args = (*args, *defaults[len(args) :], (output, tangent))  # the dispatcher leaves out trailing defaults
        if not transformed:
            return node.apply(*args)
        with enable_single_level_autograd_function():
            return node.apply(*args)

    return autograd


def _tangents(args):
    """The tangent of each argument, None where it has none; None if none has one."""
    found = [forward_ad.unpack_dual(a).tangent if isinstance(a, torch.Tensor) else None for a in args]
    return None if all(t is None for t in found) else found


def _primals(args):
    return [forward_ad.unpack_dual(a).primal if isinstance(a, torch.Tensor) else a for a in args]


def _multilinear(operator, count):
    def jvp(arguments, tangents, output):
        varying = [i for i in range(count) if tangents[i] is not None]
        terms = [operator(*arguments[:i], tangents[i], *arguments[i + 1 :]) for i in varying]
        return sum(terms[1:], terms[0])

    return jvp


def _autocast_kernel(name, device_type):
    # torch.library.register_autocast fixes one dtype at registration; the user's choice is known only at the call.
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, _AUTOCAST_KEYS[device_type]))

    def call(*args):
        dtype = torch.get_autocast_dtype(device_type)
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return getattr(OPS, name)(*(_autocast(a, device_type, dtype) for a in args))

    return call


def _autocast(argument, device_type, dtype):
    if isinstance(argument, torch.Tensor) and argument.is_floating_point() and argument.device.type == device_type:
        return argument if argument.dtype == torch.float64 else argument.to(dtype)  # as torch: never down from float64
    return argument
