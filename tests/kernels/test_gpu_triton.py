"""The triton backend's convolutions on the device, algorithm by algorithm, against the reference in float64."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import assert_close, poisoned

import gcnn_kernels as gk
from gcnn_kernels.backends import BACKENDS
from gcnn_kernels.groups import point_group

TOLERANCES = {"float64": 1e-12, "ieee": 2e-6, "tf32": 1e-3, "float16": 2e-3, "bfloat16": 1e-2}
DTYPES = {"float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}

# batch, channels in and out, height, width, k, stride, padding, dilation
LAYERS = [
    (3, 64, 64, 13, 12, 3, 1, 1, 1),
    (2, 181, 90, 8, 8, 3, 1, 1, 1),
    (2, 22, 11, 33, 31, 3, 1, 1, 1),
    (2, 45, 3, 16, 16, 1, 1, 0, 1),
    (2, 17, 5, 15, 14, 4, (2, 1), (1, 2), (1, 2)),
    (1, 1, 70, 19, 19, 5, 1, 2, 1),
]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(BACKENDS["triton"].unavailable() is not None, reason=str(BACKENDS["triton"].unavailable())),
]


def results(tensors, group, geometry, **choice):
    """Output, first derivatives, and the derivatives of a gradient penalty."""
    x, weight, bias, grad = (t.detach().requires_grad_() for t in tensors)
    function = gk.lift_conv2d if x.dim() == 4 else gk.group_conv2d
    y = function(x, weight, bias, group, *geometry, **choice)
    first = torch.autograd.grad((y * grad).sum(), (x, weight, bias), create_graph=True)
    return y, *first, *torch.autograd.grad(first[0].square().sum(), (weight, grad))


def draw(layer, group, lifting, dtype, memory_format):
    batch, channels, out_channels, height, width, k, stride, padding, dilation = layer
    generator = torch.Generator().manual_seed(0)
    order = point_group(group).order
    slots = () if lifting else (order,)
    x = torch.randn((batch, channels, *slots, height, width), generator=generator)
    weight = torch.randn((out_channels, channels, *slots, k, k), generator=generator)
    weight /= weight[0].numel() ** 0.5
    bias = torch.randn(out_channels, generator=generator)
    shape = gk.lift_conv2d if lifting else gk.group_conv2d
    y = shape(x, weight, bias, group, stride, padding, dilation, backend="reference")
    grad = torch.randn(y.shape, generator=generator).contiguous(memory_format=memory_format)
    planar = torch.channels_last if memory_format == torch.channels_last_3d else torch.contiguous_format
    x = x.contiguous(memory_format=planar if lifting else memory_format)
    return tuple(t.to("cuda", dtype) for t in (x, weight, bias, grad)), (stride, padding, dilation)


@pytest.mark.parametrize("memory_format", [torch.channels_last_3d, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("arithmetic", TOLERANCES)
@pytest.mark.parametrize("algorithm", ["direct", "fourier", "staged", "expand"])
@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_values_and_derivatives(group, algorithm, arithmetic, memory_format, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", arithmetic == "tf32")
    dtype = DTYPES.get(arithmetic, torch.float32)
    for lifting in (False,) if algorithm in ("fourier", "staged") else (False, True):
        for layer in LAYERS:
            tensors, geometry = draw(layer, group, lifting, dtype, memory_format)
            with poisoned():
                found = results(tensors, group, geometry, backend="triton", algorithm=algorithm)
            double = [t.cpu().double() for t in tensors]
            expected = results(double, group, geometry, backend="reference")
            names = ("y", "gx", "gw", "gb", "penalty gw", "penalty gg")
            for name, a, b in zip(names, found, expected, strict=True):
                # The penalty's derivatives take rounded derivatives as input: two roundings more.
                bound = TOLERANCES[arithmetic] * (2 if name.startswith("penalty") else 1)
                assert_close(a.detach(), b.detach(), bound, f"{name} of {layer}, lifting {lifting}")


@pytest.mark.parametrize("algorithm", ["direct", "fourier", "staged"])
def test_gradients_are_reproducible(algorithm):
    tensors, geometry = draw((16, 45, 90, 32, 32, 3, 1, 1, 1), "p4m", False, torch.bfloat16, torch.channels_last_3d)
    first = results(tensors, "p4m", geometry, backend="triton", algorithm=algorithm)
    for _ in range(3):
        again = results(tensors, "p4m", geometry, backend="triton", algorithm=algorithm)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("algorithm", ["direct", "fourier", "staged"])
def test_maps_of_more_than_2_to_31_elements(algorithm):
    if torch.cuda.mem_get_info()[0] < 24 << 30:
        pytest.skip("needs 24 GiB of free GPU memory")
    shape = (33, 64, 8, 360, 360)  # 2.2e9 elements, the last sample beyond 2^31
    x = torch.zeros(shape, dtype=torch.bfloat16, device="cuda").contiguous(memory_format=torch.channels_last_3d)
    x[-1] = torch.randn(shape[1:], device="cuda").to(torch.bfloat16)
    weight = torch.randn(16, 64, 8, 3, 3, device="cuda").to(torch.bfloat16)
    found = gk.group_conv2d(x, weight, None, "p4m", 1, 1, backend="triton", algorithm=algorithm)
    alone = gk.group_conv2d(x[-1:], weight, None, "p4m", 1, 1, backend="triton", algorithm=algorithm)
    assert torch.equal(found[-1:], alone)
    assert found[:-1].count_nonzero() == 0


@pytest.mark.parametrize("algorithm", ["direct", "fourier", "staged", "expand"])
def test_a_captured_graph_computes_anew(algorithm):
    """Once everything is compiled and every table is on the device, that is after one call."""
    (x, weight, bias, _), geometry = draw(LAYERS[1], "p4m", False, torch.bfloat16, torch.channels_last_3d)

    def run():
        return gk.group_conv2d(x, weight, bias, "p4m", *geometry, backend="triton", algorithm=algorithm)

    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = run()
    x.neg_()
    graph.replay()
    assert torch.equal(y, run())
