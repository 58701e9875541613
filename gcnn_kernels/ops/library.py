"""The dispatcher library ``gcnn_kernels``, and what all of its operators share."""

from __future__ import annotations

import torch

LIBRARY = torch.library.Library("gcnn_kernels", "DEF")
OPS = torch.ops.gcnn_kernels

_AUTOCAST_KEYS = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA"}


def define(schema: str, kernel, fake, *, autocast: bool = False) -> None:
    """Registers one functional operator for all devices.

    Args:
        schema: in the dispatcher's language, without namespace.
        kernel: the implementation; it dispatches to a backend itself.
        fake: the implementation on meta tensors.
        autocast: whether floating-point tensors are cast to the autocast dtype (as torch does for convolutions).
    """
    name = schema.split("(", 1)[0]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"gcnn_kernels::{name}", fake, lib=LIBRARY)
    if autocast:
        for device_type, key in _AUTOCAST_KEYS.items():
            LIBRARY.impl(name, _autocast_kernel(name, device_type), key)


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
