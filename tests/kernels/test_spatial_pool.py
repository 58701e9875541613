"""The maximum over windows of 2 x 2 pixels: kernels, derivatives, and the layer's choice of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from kernel_cases import DTYPES, FORMATS, check_spatial_pool
from layer_properties import check_derivatives

import gcnn_kernels as gk
from gcnn_kernels.backends import BACKENDS
from gcnn_kernels.ops.library import OPS

CPU = torch.device("cpu")
SERVING = [
    name for name, b in BACKENDS.items()
    if b.spatial_pool is not None and not (b.unavailable() or b.unsupported(CPU, torch.float32))
]  # fmt: skip
# Channels below, of and above a vector, and more than a block of the kernels holds; rows longer than a block.
CHANNELS = (1, 2, 3, 11, 16, 17, 45, 1100)
PLANES = ((1, 1), (2, 3), (8, 5), (3, 65))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backend", SERVING)
def test_kernels(backend, dtype, memory_format):
    torch.manual_seed(0)
    for channels in CHANNELS:
        for plane in PLANES:
            check_spatial_pool(BACKENDS[backend], "cpu", dtype, (2, channels, 3, *plane), memory_format)
    check_spatial_pool(BACKENDS[backend], "cpu", dtype, (1, 1, 2, 2, 1500), memory_format)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4, 4), (2, 0, 4, 4, 4)], ids=str)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("backend", SERVING)
def test_empty_maps(backend, memory_format, shape):
    if backend == "reference" and shape[1] == 0:
        pytest.skip("torch's own pooling refuses maps without channels")
    x = torch.randn(shape).contiguous(memory_format=memory_format)
    value, index = OPS.spatial_max(x, backend)
    assert value.shape == index.shape == (*shape[:3], shape[3] // 2, shape[4] // 2)
    assert OPS.spatial_max_scatter(value, index, backend).shape == x.shape


@pytest.mark.parametrize("memory_format", FORMATS)
def test_the_layer(memory_format):
    torch.manual_seed(0)
    layer = gk.nn.SpatialMaxPool2d(2)
    x = torch.randn(2, 3, 4, 6, 8, dtype=torch.float64).contiguous(memory_format=memory_format)
    y = layer(x)
    assert torch.equal(y.flatten(1, 2), F.max_pool2d(x.flatten(1, 2), 2))
    assert y.is_contiguous(memory_format=memory_format)
    assert torch.equal(layer(x[:, :, 0]), y[:, :, 0])
    for part in (x[:, 1:], x[:, :, ::2], x[..., ::2], x.transpose(3, 4)):
        assert torch.equal(layer(part).flatten(1, 2), F.max_pool2d(part.flatten(1, 2), 2))
    check_derivatives(layer, (2, 3, 4, 4, 6))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("backend", SERVING)
def test_opcheck(backend, memory_format):
    x = torch.randn(2, 3, 4, 4, 6).contiguous(memory_format=memory_format).requires_grad_()
    value, index = OPS.spatial_max(x.detach(), backend)
    torch.library.opcheck(OPS.spatial_max.default, (x, backend))
    torch.library.opcheck(OPS.spatial_max_scatter.default, (value.requires_grad_(), index, backend))
    torch.library.opcheck(OPS.spatial_max_gather.default, (x, index, backend))
