"""The reference backend: the defining formulas in plain PyTorch, for any device and floating dtype.

    lifting:  y(h, p) = sum_t    w[h^-1 t]          x(p + t)
    group:    y(h, p) = sum_{s,t} w[h^-1 s, h^-1 t]  x(s, p + t)

The sums over t are convolutions with the filters of all h stacked (Cohen & Welling 2016, section 7).
"""

from __future__ import annotations

import torch

from ..._layout import map_format, to_map_format
from ..base import Backend, accumulator
from ..expansion import OnlyExpansionMixin
from ..filter_indices import filter_sources, filter_targets


class ReferenceBackend(OnlyExpansionMixin, Backend):
    name = "reference"

    def missing(self):
        return None

    def refuses_tensor(self, device, dtype):
        return None

    def expand_filters(self, weight, group):
        cout, cin, slots, k, _ = weight.shape
        sources = filter_sources(group, slots, k, weight.device)
        stack = weight.reshape(cout, cin, -1)[:, :, sources]  # [Cout, Cin, order, S*k*k]
        return stack.transpose(1, 2).reshape(cout * group.order, cin * slots, k, k)

    def reduce_filters(self, stack, group, in_slots):
        k = stack.shape[-1]
        targets = filter_targets(group, in_slots, k, stack.device)
        cout, cin = stack.shape[0] // group.order, stack.shape[1] // in_slots
        stack = stack.reshape(cout, group.order, cin, -1)
        weight = stack.gather(3, targets[None, :, None, :].expand_as(stack)).sum(1)
        return weight.reshape(cout, cin, in_slots, k, k)

    def norm_stats(self, x):
        x = x.to(accumulator(x.dtype))
        var, mean = torch.var_mean(x, dim=(0, 2, 3, 4), correction=0)
        return mean, var

    def norm_apply(self, x, mean, rstd, weight, bias, slope):
        xhat = (x - _per_map(mean)) * _per_map(rstd)
        y = _affine(xhat, weight, bias)
        return torch.where(y > 0, y, slope * y).to(x.dtype)

    def norm_backward_sums(self, grad, x, mean, rstd, weight, bias, slope):
        g, xhat = _masked_grad(grad, x, mean, rstd, weight, bias, slope)
        return g.sum((2, 3, 4)), (g * xhat).sum((2, 3, 4))

    def norm_backward_input(self, grad, x, mean, rstd, weight, bias, slope, mean_g, mean_gx):
        g, xhat = _masked_grad(grad, x, mean, rstd, weight, bias, slope)
        if weight is not None:
            g = g * _per_map(weight)
        return ((g - _per_map(mean_g) - xhat * _per_map(mean_gx)) * _per_map(rstd)).to(x.dtype)

    def group_max(self, x):
        value, index = x.max(dim=2)
        plane_format = torch.channels_last if map_format(x) == torch.channels_last_3d else torch.contiguous_format
        return value.contiguous(memory_format=plane_format), index.to(torch.uint8, memory_format=plane_format)

    def group_max_scatter(self, grad, index, slots):
        slot = torch.arange(slots, device=grad.device).view(1, 1, -1, 1, 1)
        scattered = torch.where(index.unsqueeze(2) == slot, grad.unsqueeze(2), 0)
        return to_map_format(scattered, like=index.unsqueeze(2))

    def group_max_gather(self, x, index):
        index = index.unsqueeze(2)
        return to_map_format(x.gather(2, index.long()), like=index).squeeze(2)


def _per_map(t):
    """``[C]`` or ``[B, C]`` -> broadcastable to ``[B, C, S, H, W]``."""
    return t[..., None, None, None]


def _affine(xhat, weight, bias):
    y = xhat if weight is None else xhat * _per_map(weight)
    return y if bias is None else y + _per_map(bias)


def _masked_grad(grad, x, mean, rstd, weight, bias, slope):
    xhat = (x.to(mean.dtype) - _per_map(mean)) * _per_map(rstd)
    y = _affine(xhat, weight, bias)
    grad = grad.to(mean.dtype)
    return torch.where(y > 0, grad, slope * grad), xhat
