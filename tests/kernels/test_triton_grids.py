"""No launch asks for more blocks than CUDA has: 2^31 - 1 along the first axis, 65,535 along the others; no GPU needed.

Maps have up to NUMBERS numbers, more than the memory of a GPU holds, and no memory here: they are meta tensors.
"""

from __future__ import annotations

import pytest
import torch

import gcnn_kernels as gk
from gcnn_kernels.backends import ConvProblem, staged
from gcnn_kernels.backends.base import Affine

pytest.importorskip("triton")

from benches.ahead_of_time import recorded, run_conv
from gcnn_kernels.backends.triton import conv, filters, norm, pool

NUMBERS = 2**38
GRID = 2**31 - 1, 65535, 65535
CHANNELS = 32 * 65537  # columns of more tiles than the second axis of a grid has
FORMATS = torch.contiguous_format, torch.channels_last_3d


def check(programs):
    assert programs
    for program in programs:
        assert all(1 <= n <= most for n, most in zip(program.grid, GRID, strict=False)), (program.name, program.grid)


def problem(op, group, sizes, dtype):
    batch, in_channels, out_channels, height, width, k = sizes
    point = gk.point_group(group)
    return ConvProblem.of(
        op, (batch, in_channels, point.order, height, width), (out_channels, in_channels, point.order, k, k),
        group=point, padding=(k // 2, k // 2), dtype=dtype, device=torch.device("meta"),
    )  # fmt: skip


@pytest.mark.parametrize("group", ["p4", "p4m"])
@pytest.mark.parametrize("algorithm", ["direct", "fourier", "staged"])
@pytest.mark.parametrize(
    "sizes",  # batch, channels in and out, plane, kernel
    [
        (2**31 - 1, 1, 1, 1, 1, 1),
        (2**31 - 1, 1, 3, 1, 1, 1),
        (1, 1, 1, 2**14 - 1, 2**14, 3),
        (2**17, 1, 1, 2**7, 2**7 - 1, 3),
        (2**17, 16, 15, 2**7, 2**7 - 1, 3),
        (2**31 - 1, 16, 16, 1, 1, 1),
        (1, 2**22 - 1, 1, 8, 8, 1),
        (1, 1, 2**22 - 1, 8, 8, 1),
        (4, 2**12, 2**12, 128, 128, 1),
        (4, 1, 1, 512, 512, 300),
        (4, 1, 3, 2, 2, 700),
    ],
)
def test_convolutions(monkeypatch, tmp_path, algorithm, sizes, group):
    """All that ``unsupported`` allows; "staged" with all pixels in one chunk, the largest grids that it could have."""
    monkeypatch.setenv("GCNN_TUNE_DIR", str(tmp_path))
    monkeypatch.setattr(staged, "WORKSPACE", 2**60)
    for op in ("conv", "conv_input_grad", "conv_weight_grad"):
        for dtype in (torch.bfloat16, torch.float64):
            layer = problem(op, group, sizes, dtype)
            assert max(torch.Size(layer.in_shape).numel(), torch.Size(layer.out_shape).numel()) <= NUMBERS
            if conv.unsupported(layer, algorithm) is None:
                check(recorded(algorithm, run_conv, layer, algorithm))


SHAPES = [
    (1, 1, 8, 2**17, 2**18),
    (2**20, 1, 4, 256, 256),
    (2**18, 2**11, 8, 8, 8),
    (2**30, 1, 8, 1, 3),
    (1, CHANNELS, 8, 2, 2),
    (3, CHANNELS, 4, 1, 1),
    (2**10 - 1, 2**21, 1, 1, 1),
]


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_norms(shape, memory_format):
    x = torch.empty(shape, dtype=torch.bfloat16, device="meta", memory_format=memory_format)
    moment = torch.empty(shape[1], device="meta")
    affine = Affine(moment, moment, 0.0)
    check(recorded("statistics", norm.norm_stats, x))
    check(recorded("application", norm.norm_apply, x, moment, moment, affine))
    check(recorded("sums", norm.norm_backward_sums, x, x, moment, moment, affine))
    check(recorded("gradient", norm.norm_backward_input, x, x, moment, moment, affine, moment, moment))


def test_a_grid_that_cuda_does_not_have_is_refused():
    """2^31 planes of two numbers each."""
    x = torch.empty(2**21, 2**10, 1, 1, 2, device="meta")
    moment = torch.empty(2**10, device="meta")
    with pytest.raises(RuntimeError, match=r"apply_kernel would need a grid of \(2147483648,\) blocks, more than"):
        recorded("application", norm.norm_apply, x, moment, moment, Affine(None, None, 1.0))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_pools(shape, memory_format):
    x = torch.empty(shape, dtype=torch.bfloat16, device="meta", memory_format=memory_format)

    def run():
        value, index = pool.group_max(x)
        pool.group_max_scatter(value, index, shape[2])
        pool.group_max_gather(x, index)

    check(recorded("maximum", run))


@pytest.mark.parametrize("shape", [(2**16, 2**16, 8, 1, 1), (2**18, 1, 8, 128, 128), (1, 2**18, 8, 128, 128)])
def test_filters(shape):
    point = gk.point_group("p4m")
    weight = torch.empty(shape, dtype=torch.bfloat16, device="meta")

    def run():
        filters.reduce_filters(filters.expand_filters(weight, point), point, point.order)

    check(recorded("stack", run))
