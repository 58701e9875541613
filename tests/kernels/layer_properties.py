"""What every layer on maps has to be: equivariant, differentiable twice, format and dtype keeping, exportable."""

from __future__ import annotations

import copy

import torch

import gcnn_kernels as gk
from gcnn_kernels._actions import move_map, move_planes

FORMATS = (torch.contiguous_format, torch.channels_last_3d)


def settled(layer):
    """The layer in double precision with parameters that are not the first ones."""
    layer = layer.double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.rand_like(parameter))
    return layer


def check_equivariant(layer, group, shape, tolerance=1e-12):
    """f(g x) = g f(x) for every element that permutes the pixels; maps ``[B, C, order, H, W]`` to maps on the group."""
    point = gk.point_group(group)
    x = torch.randn(shape, dtype=torch.float64)
    for element in point.grid_elements:
        moved = layer(move_map(x, int(element), point))
        torch.testing.assert_close(moved, move_map(layer(x), int(element), point), rtol=tolerance, atol=tolerance)


def check_planes_equivariant(layer, shape):
    """f(g x) = g f(x) of images."""
    point = gk.point_group("p4m")
    x = torch.randn(shape, dtype=torch.float64)
    for element in range(point.order):
        torch.testing.assert_close(layer(move_planes(x, element, point)), move_planes(layer(x), element, point))


def check_derivatives(layer, shape):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    parameters = tuple(p.detach().clone().requires_grad_() for p in layer.parameters())
    names = [name for name, _ in layer.named_parameters()]

    def function(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x, *parameters))
    assert torch.autograd.gradgradcheck(function, (x, *parameters))


def check_formats_and_dtypes(layer, shape):
    """The output has x's format and dtype, and in every dtype the values of float64."""
    x = torch.randn(shape, dtype=torch.float64)
    expected = layer(x)
    for memory_format in FORMATS:
        y = layer(x.contiguous(memory_format=memory_format))
        assert y.is_contiguous(memory_format=memory_format) and y.dtype == x.dtype
        torch.testing.assert_close(y, expected)
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 5e-2)):
            z = copy.deepcopy(layer).to(dtype)(x.to(dtype).contiguous(memory_format=memory_format))
            assert z.dtype == dtype and z.is_contiguous(memory_format=memory_format)
            torch.testing.assert_close(z.double(), expected, rtol=tolerance, atol=tolerance)


def check_autocast_and_compile(layer, shape):
    layer = copy.deepcopy(layer).float()
    x = torch.randn(shape)
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(x).float(), expected, rtol=5e-2, atol=5e-2)
        layer(x.bfloat16())
    torch._dynamo.reset()  # one program of "forward" for every layer here would be more than it allows
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), expected)


def check_plain(layer, shape):
    """``to_plain`` computes the same without this package, and goes through torch.export."""
    layer = copy.deepcopy(layer).float().eval()
    x = torch.randn(shape)
    plain = gk.to_plain(layer)
    assert not [m for m in plain.modules() if type(m).__module__.startswith("gcnn_kernels")]
    torch.testing.assert_close(plain(x), layer(x), rtol=1e-5, atol=1e-5)
    exported = torch.export.export(torch.nn.Sequential(plain), (x,))
    assert "gcnn_kernels" not in str(exported.graph)
    torch.testing.assert_close(exported.module()(x), layer(x), rtol=1e-5, atol=1e-5)
