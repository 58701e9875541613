"""Every kernel of the GPU backends on the device, against the reference in float64 on the CPU."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import (
    AFFINES_AND_SLOPES,
    DTYPES,
    EMPTY_SHAPES,
    FORMATS,
    SHAPES,
    TOLERANCES,
    affine_parameters,
    assert_close,
    check_filters,
    check_norm,
    check_norm_of_nothing,
    check_pool,
    check_statistics_without_cancellation,
    poisoned,
    random_map,
)  # fmt: skip

import gcnn_kernels as gk
from gcnn_kernels.backends import BACKENDS
from gcnn_kernels.backends.base import Affine
from gcnn_kernels.groups import point_group
from gcnn_kernels.ops.library import OPS

pytestmark = pytest.mark.gpu

formats = pytest.mark.parametrize("memory_format", FORMATS, ids=str)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture(params=["cuda", "triton"])
def name(request):
    reason = BACKENDS[request.param].unavailable()
    if reason:
        pytest.skip(f"backend {request.param}: {reason}")
    return request.param


@pytest.fixture
def serve(name):
    """The backend, if it serves an operation on a map of some dtype; else the test is skipped with its reason."""

    def serve(op, dtype=torch.float32):
        reason = BACKENDS[name].unsupported(torch.device("cuda", torch.cuda.current_device()), dtype)
        if reason:
            pytest.skip(f"backend {name}: {reason}")
        return BACKENDS[name]

    return serve


@formats
@dtypes
def test_norm(serve, dtype, memory_format):
    torch.manual_seed(0)
    kernels = serve("norm", dtype)
    for shape in (*SHAPES, (8, 90, 8, 16, 16), (2, 515, 4, 7, 7), (2, 5, 8, 130, 127)):
        for affine, slope in AFFINES_AND_SLOPES:
            check_norm(kernels, "cuda", dtype, shape, memory_format, affine, slope)


@formats
def test_norm_of_nothing(serve, memory_format):
    for shape in EMPTY_SHAPES:
        check_norm_of_nothing(serve("norm"), "cuda", shape, memory_format)


@formats
def test_statistics_do_not_cancel(serve, memory_format):
    torch.manual_seed(0)
    check_statistics_without_cancellation(serve("norm"), "cuda", torch.float32, memory_format)


@formats
def test_norm_is_reproducible(serve, memory_format):
    kernels = serve("norm")
    x, grad = (random_map((16, 45, 8, 32, 32), torch.float32, "cuda", memory_format) for _ in range(2))

    def run():
        mean, var = kernels.norm.norm_stats(x)
        return mean, var, *kernels.norm.norm_backward_sums(grad, x, mean, var.rsqrt(), Affine(None, None, 0.0))

    first = run()
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, run(), strict=True))


@formats
@dtypes
def test_pool(serve, dtype, memory_format):
    torch.manual_seed(0)
    kernels = serve("pool", dtype)
    for shape in (*SHAPES, *EMPTY_SHAPES, (2, 3, 256, 3, 3), (8, 90, 8, 16, 16)):
        check_pool(kernels, "cuda", dtype, shape, memory_format)


@dtypes
def test_filters(serve, dtype):
    kernels = serve("filters", dtype)
    for group in map(point_group, ("p1", "p4", "p4m")):
        for in_slots in {1, group.order}:
            for k in (1, 2, 3, 5):
                check_filters(kernels, "cuda", dtype, group, in_slots, k)


def conv_and_gradients(function, arguments, options, device, dtype, backend):
    given = [t.to(device, dtype).requires_grad_() for t in arguments]
    y = function(*given, **options, backend=backend)
    torch.manual_seed(1)
    grad = (torch.randn(y.shape) / 4).to(arguments[0].dtype).to(device, dtype)
    return y, *torch.autograd.grad(y, given, grad)


@formats
@dtypes
@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_convolution_and_gradients(serve, name, group, dtype, memory_format, monkeypatch):
    """Output and gradients of lifting and group convolutions; float32 without TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    serve("norm", dtype)
    torch.manual_seed(0)
    order = point_group(group).order
    for slots, k, stride, padding, dilation in (
        (1, 3, 1, 1, 1),
        (order, 3, 1, 1, 1),
        (order, 2, 2, 0, 1),
        (order, 3, 1, 2, 2),
    ):
        shape = (3, 16, slots, 13, 12)
        function = gk.group_conv2d
        x = (torch.randn(shape) / 4).to(dtype).contiguous(memory_format=memory_format)
        weight = (torch.randn(24, 16, slots, k, k) / 4).to(dtype)
        if slots == 1:
            function, weight = gk.lift_conv2d, weight.squeeze(2)
            planar = torch.channels_last if memory_format == torch.channels_last_3d else torch.contiguous_format
            x = x.squeeze(2).contiguous(memory_format=planar)
        bias = torch.randn(24).to(dtype)

        options = {"group": group, "stride": stride, "padding": padding, "dilation": dilation}
        arguments = (function, (x, weight, bias), options)
        with poisoned():
            found = conv_and_gradients(*arguments, "cuda", dtype, name)
        expected = conv_and_gradients(*arguments, "cpu", torch.float64, "reference")
        for what, a, b in zip(("y", "gx", "gw", "gb"), found, expected, strict=True):
            assert a.dtype == dtype
            assert_close(a, b, TOLERANCES[dtype], f"{what} (slots {slots}, k {k})")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", ["none", "per map", "per sample"])
def test_norm_derivatives(serve, name, affine, training):
    serve("norm", torch.float64)
    torch.manual_seed(0)
    shape = (2, 2, 4, 1, 2)
    x = torch.randn(shape, dtype=torch.float64, device="cuda", requires_grad=True)
    given = [p.requires_grad_() for p in affine_parameters(affine, shape, torch.float64, "cuda") if p is not None]

    def norm(x, *given):
        moments = (torch.full((2,), m, dtype=torch.float64, device="cuda") for m in (0.2, 1.5))
        return gk.group_batch_norm(
            x, *moments, *(given or (None, None)), training, activation="leaky_relu", backend=name
        )

    assert torch.autograd.gradcheck(norm, (x, *given))
    assert torch.autograd.gradgradcheck(norm, (x, *given))


def test_pool_derivatives(serve, name):
    serve("pool", torch.float64)
    x = torch.randn(1, 2, 4, 2, 2, dtype=torch.float64, device="cuda", requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gk.group_max_pool(x, backend=name), x)
    assert torch.autograd.gradgradcheck(lambda x: gk.group_max_pool(x, backend=name), x)


@formats
def test_opcheck(serve, name, memory_format):
    serve("norm", torch.float64)
    shape = (2, 3, 4, 5, 5)
    x, grad = (random_map(shape, torch.float64, "cuda", memory_format).requires_grad_() for _ in range(2))
    given = [p.requires_grad_() for p in affine_parameters("per sample", shape, torch.float64, "cuda")]
    mean, var = (torch.rand(3, dtype=torch.float64, device="cuda") + 0.5 for _ in range(2))
    torch.library.opcheck(OPS.batch_norm.default, (x, *given, 1e-5, 0.2, False, name))
    torch.library.opcheck(OPS.batch_norm_backward.default, (grad, x, mean, var, *given, None, 1e-5, 0.2, False, name))
    torch.library.opcheck(OPS.group_max.default, (x, name))


def layer(name):
    """A lifting layer, a group layer, norms and pooling, and the gradients of an R1 penalty through all of them."""
    options = {"padding": 1, "group": "p4m", "backend": name, "device": "cuda"}
    torch.manual_seed(0)
    lift, conv = gk.nn.LiftingConv2d(3, 8, 3, **options), gk.nn.GroupConv2d(8, 8, 3, **options)
    norm = gk.nn.GroupBatchNorm2d(8, activation="leaky_relu", backend=name, device="cuda")
    return lambda x: gk.group_max_pool(norm(conv(lift(x))), backend=name), (*lift.parameters(), *conv.parameters())


def penalty_gradients(net, parameters, images):
    (gx,) = torch.autograd.grad(net(images).square().mean(), images, create_graph=True)
    return torch.autograd.grad(gx.square().sum(), parameters)


def test_gradient_penalty_equals_the_references(serve, name, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    serve("norm")
    images = torch.randn(4, 3, 16, 16, device="cuda", requires_grad=True)
    found, expected = (penalty_gradients(*layer(backend), images) for backend in (name, "reference"))
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() <= 1e-4 * b.norm() + 1e-9


def test_a_step_is_captured_in_a_cuda_graph(serve, name):
    serve("norm")
    net, parameters = layer(name)
    images = torch.randn(4, 3, 16, 16, device="cuda", requires_grad=True)
    stream = torch.cuda.Stream()  # warming up on a side stream also shows that kernels follow the current one
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            expected = penalty_gradients(net, parameters, images)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = penalty_gradients(net, parameters, images)
    for g in captured:
        g.fill_(float("nan"))
    graph.replay()
    for a, b in zip(captured, expected, strict=True):
        assert (a - b).norm() <= 1e-4 * b.norm() + 1e-9


def test_maps_of_more_than_2_to_31_elements(serve):
    if torch.cuda.mem_get_info()[0] < 24 << 30:
        pytest.skip("needs 24 GiB of free GPU memory")
    shape = (33, 64, 8, 360, 360)  # 2.2e9 elements, the last sample beyond 2^31
    x = torch.zeros(shape, dtype=torch.bfloat16, device="cuda").contiguous(memory_format=torch.channels_last_3d)
    x[-1, :, 5, -1, -1] = 3
    value, index = serve("pool", torch.bfloat16).group_max(x)
    assert value[-1, :, -1, -1].eq(3).all() and index[-1, :, -1, -1].eq(5).all() and value.count_nonzero() == 64
    del value, index
    kernels, ones = serve("norm", torch.bfloat16), torch.ones(64, device="cuda")
    mean, _ = kernels.norm.norm_stats(x)
    torch.testing.assert_close(mean, torch.full_like(mean, 3 / (33 * 8 * 360 * 360)), rtol=1e-5, atol=0)
    sums, _ = kernels.norm.norm_backward_sums(x, x, 0 * ones, ones, Affine(None, None, 1.0))
    assert sums[-1].eq(3).all() and not sums[:-1].any()
    y = kernels.norm.norm_apply(x, -ones, ones, Affine(None, None, 1.0))
    assert y[-1, :, 5, -1, -1].eq(4).all() and y[-1, :, :, 0, 0].eq(1).all()


def test_what_cannot_be_served_is_refused_with_the_reason(name):
    x = torch.randn(2, 3, 4, 5, 5)
    with pytest.raises(RuntimeError, match=f"backend '{name}' cannot run pool on a torch.float32 tensor on cpu: "):
        gk.group_max_pool(x, backend=name)
    with pytest.raises(
        RuntimeError, match=f"backend '{name}' cannot run pool on a torch.float8_e5m2 tensor on cuda:0: "
    ):
        gk.group_max_pool(x.cuda().to(torch.float8_e5m2), backend=name)
    with pytest.raises(ValueError, match="weight: expected device cuda:0 as x has, got cpu"):
        gk.group_conv2d(x.cuda(), torch.randn(2, 3, 4, 3, 3), backend=name)
