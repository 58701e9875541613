"""Maximum and mean over the group: kernels, ties, NaN, derivatives."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import DTYPES, EMPTY_SHAPES, FORMATS, SHAPES, check_pool

import gcnn_kernels as gk
from gcnn_kernels.backends import BACKENDS
from gcnn_kernels.ops.library import OPS

CPU = torch.device("cpu")
ON_CPU = [name for name, b in BACKENDS.items() if not (b.unavailable() or b.unsupported(CPU, torch.float32))]
COMPILED = [name for name in ON_CPU if name != "reference"]


def format_name(memory_format):
    return str(memory_format).split(".")[1]


@pytest.mark.parametrize("memory_format", FORMATS, ids=format_name)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backend", COMPILED)
def test_kernels(backend, dtype, memory_format):
    torch.manual_seed(0)
    for shape in (*SHAPES, *EMPTY_SHAPES, (2, 3, 256, 3, 3)):
        check_pool(BACKENDS[backend], "cpu", dtype, shape, memory_format)


@pytest.mark.parametrize("backend", ON_CPU)
def test_the_first_of_equal_values_and_the_first_nan_win(backend):
    nan, inf = float("nan"), float("inf")
    slots = [
        [1.0, 2, 2, 0],
        [-1, -1, -1, -1],
        [0, nan, inf, nan],
        [-inf, -inf, -inf, -inf],
        [nan, 1, 2, 3],
        [0, 0, inf, inf],
    ]
    x = torch.tensor(slots).T[None, None, :, :, None]
    value, index = OPS.group_max(x, backend)
    assert index.flatten().tolist() == [1, 0, 1, 0, 0, 2]
    torch.testing.assert_close(value.flatten(), torch.tensor([2, -1, nan, -inf, nan, inf]), equal_nan=True)


@pytest.mark.parametrize("memory_format", FORMATS, ids=format_name)
@pytest.mark.parametrize("backend", ON_CPU)
def test_derivatives(backend, memory_format):
    torch.manual_seed(0)
    x = torch.randn(1, 2, 4, 2, 2, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    pool = lambda x: gk.group_max_pool(x, backend=backend)  # noqa: E731
    assert torch.autograd.gradcheck(pool, x)
    assert torch.autograd.gradgradcheck(pool, x)
    assert torch.autograd.gradcheck(lambda x: pool(x).square().sum(), x)


@pytest.mark.parametrize("backend", ON_CPU)
def test_second_derivative_through_the_argument_of_the_maximum(backend):
    """The squared norm of d/dx sum(max(x)^3) against the same with torch.max."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 4, 5, dtype=torch.float64, requires_grad=True)

    def penalty(pooled):
        (gx,) = torch.autograd.grad((pooled**3).sum(), x, create_graph=True)
        return torch.autograd.grad(gx.square().sum(), x)[0]

    torch.testing.assert_close(penalty(gk.group_max_pool(x, backend=backend)), penalty(x.amax(2)), rtol=1e-12, atol=0)


@pytest.mark.parametrize("memory_format", FORMATS, ids=format_name)
@pytest.mark.parametrize("backend", ON_CPU)
def test_opcheck(backend, memory_format):
    x = torch.randn(2, 3, 4, 5, 6).contiguous(memory_format=memory_format).requires_grad_()
    value, index = OPS.group_max(x.detach(), backend)
    torch.library.opcheck(OPS.group_max.default, (x, backend))
    torch.library.opcheck(OPS.group_max_scatter.default, (value.requires_grad_(), index, 4, backend))
    torch.library.opcheck(OPS.group_max_gather.default, (x, index, backend))


@pytest.mark.parametrize(
    "pool, expected", [(gk.group_max_pool, torch.Tensor.amax), (gk.group_avg_pool, torch.Tensor.mean)]
)
def test_slices_and_memory_formats(pool, expected):
    torch.manual_seed(0)
    maps = torch.randn(3, 6, 4, 5, 7)
    for memory_format in FORMATS:
        x = maps.contiguous(memory_format=memory_format)
        planar = torch.channels_last if memory_format == torch.channels_last_3d else torch.contiguous_format
        assert pool(x).is_contiguous(memory_format=planar)
        for part in (x, x[:, 1:4], x[:, :, ::2], x[..., ::2], x.transpose(3, 4), x[:0]):
            torch.testing.assert_close(pool(part), expected(part, 2))


@pytest.mark.parametrize("pool", [gk.group_max_pool, gk.group_avg_pool])
def test_bad_input_is_refused(pool):
    with pytest.raises(ValueError, match=r"x: expected \[B, C, order, H, W\], got 4 dimensions"):
        pool(torch.randn(2, 3, 5, 5))
    with pytest.raises(TypeError, match=r"x: expected a floating-point dtype, got torch.int64"):
        pool(torch.ones(2, 3, 4, 5, 5, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"x: expected a tensor .*, got list"):
        pool([1.0])


@pytest.mark.parametrize("slots", [0, 257])
def test_the_index_has_room_for_256_slots(slots):
    with pytest.raises(ValueError, match=f"x: expected 1 to 256 slots in dimension 2, got {slots}"):
        gk.group_max_pool(torch.randn(1, 1, slots, 2, 2))


def test_backends_are_named():
    with pytest.raises(ValueError, match=r"backend: expected one of 'auto', .*, got 'opencl'"):
        gk.group_max_pool(torch.randn(1, 1, 4, 2, 2), backend="opencl")
    with pytest.raises(RuntimeError, match=r"backend 'cuda' cannot run pool on a torch.float32 tensor on cpu: "):
        gk.group_max_pool(torch.randn(1, 1, 4, 2, 2), backend="cuda")
