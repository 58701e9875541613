"""Bad input is refused before any kernel starts, and the message says what was expected and what came."""
# ruff: noqa: E501 - one case a line

import re

import pytest
import torch

import gcnn_kernels as gk
from gcnn_kernels.ops.library import OPS

IMAGE, LIFT = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3)
MAPS, WEIGHT = torch.randn(2, 3, 4, 8, 8), torch.randn(4, 3, 4, 3, 3)


def case(function, *arguments, message, error=ValueError, **options):
    return pytest.param(function, arguments, options, error, message, id=message[:50])


@pytest.mark.parametrize(
    "function, arguments, options, error, message",
    [
        case(gk.lift_conv2d, MAPS, LIFT, message=r"x: expected \[B, Cin, H, W\], got 5 dimensions, \(2, 3, 4, 8, 8\)"),
        case(gk.lift_conv2d, IMAGE, WEIGHT, message=r"weight: expected \[Cout, Cin / groups, k, k\], got 5 dimensions"),
        case(gk.group_conv2d, IMAGE, WEIGHT, message=r"x: expected \[B, Cin, 4, H, W\], got 4 dimensions"),
        case(gk.group_conv2d, MAPS, LIFT, message=r"weight: expected \[Cout, Cin / groups, 4, k, k\], got 4 dimensions"),
        case(gk.group_conv2d, MAPS, WEIGHT, None, "p4m", message="x: expected 8 slots in dimension 2 for group 'p4m', got 4"),
        case(gk.group_conv2d, MAPS, WEIGHT[:, :, :2], message="weight: expected 4 slots in dimension 2 for group 'p4', got 2"),
        case(gk.group_conv2d, MAPS[:, :2], WEIGHT, message=r"x: expected 3 channels as the weight has, got 2 in \(2, 2, 4"),
        case(gk.lift_conv2d, IMAGE, LIFT[..., :2], message="weight: expected a square filter, at least 1 x 1, got 3 x 2"),
        case(gk.lift_conv2d, IMAGE, LIFT[..., :0, :0], message="weight: expected a square filter, at least 1 x 1, got 0 x 0"),
        case(gk.lift_conv2d, IMAGE, LIFT[:0], message="weight: expected at least one channel in and out, got 3 in and 0 out"),
        case(gk.lift_conv2d, IMAGE.int(), LIFT, error=TypeError, message="x: expected a floating-point dtype, got torch.int32"),
        case(gk.lift_conv2d, IMAGE, LIFT.double(), error=TypeError, message="weight: expected dtype torch.float32 as x has, got torch.float64"),
        case(gk.lift_conv2d, IMAGE.numpy(), LIFT, error=TypeError, message=r"x: expected a tensor \[B, Cin, H, W\], got ndarray"),
        case(gk.lift_conv2d, IMAGE, LIFT.to("meta"), message="weight: expected device cpu as x has, got meta"),
        case(gk.lift_conv2d, IMAGE, LIFT, torch.randn(5), message=r"bias: expected shape \(4,\), got \(5,\)"),
        case(gk.lift_conv2d, IMAGE, LIFT, torch.randn(4).double(), error=TypeError, message="bias: expected dtype torch.float32 as x has"),
        case(gk.lift_conv2d, IMAGE, LIFT, group="p6", message="group must be .* got 'p6'"),
        case(gk.lift_conv2d, IMAGE, LIFT, stride=0, message="stride: expected at least 1, got 0"),
        case(gk.lift_conv2d, IMAGE, LIFT, stride=1.5, error=TypeError, message="stride: expected an int or a pair of ints, got 1.5"),
        case(gk.lift_conv2d, IMAGE, LIFT, dilation=(1, 2, 3), error=TypeError, message="dilation: expected an int or a pair of ints"),
        case(gk.lift_conv2d, IMAGE, LIFT, padding=-1, message="padding: expected at least 0, got -1"),
        case(gk.lift_conv2d, IMAGE, LIFT, padding="full", message="padding: expected one of 'valid', 'same', got 'full'"),
        case(gk.lift_conv2d, IMAGE, LIFT, padding="same", stride=2, message="padding: 'same' needs stride 1"),
        case(gk.lift_conv2d, IMAGE, LIFT, dilation=5, message=r"padding: a 3 x 3 filter .* leaves no output, \(-2, -2\)"),
        case(gk.lift_conv2d, IMAGE, LIFT, algorithm="fft", message="algorithm: expected one of 'auto', 'direct', .* got 'fft'"),
        case(gk.lift_conv2d, IMAGE, LIFT, backend="mps", message="backend: expected one of 'auto', .* got 'mps'"),
        case(gk.group_max_pool, IMAGE, message=r"x: expected \[B, C, order, H, W\], got 4 dimensions"),
        case(gk.group_max_pool, MAPS[:, :, :0], message="x: expected 1 to 256 slots in dimension 2, got 0"),
        case(gk.group_avg_pool, MAPS.long(), error=TypeError, message="x: expected a floating-point dtype, got torch.int64"),
        case(gk.expand_filters, LIFT[..., 0], "p4", message=r"weight: expected \[Cout, Cin, k, k\] or"),
        case(gk.expand_filters, LIFT[..., :2], "p4", message="weight: expected a square filter, got 3 x 2"),
    ],
)  # fmt: skip
def test_message(function, arguments, options, error, message):
    with pytest.raises(error, match=message):
        function(*arguments, **options)


def test_an_explicit_backend_says_why_it_cannot_serve():
    with pytest.raises(
        RuntimeError,
        match=r"backend 'reference' cannot run conv .*it has the algorithms 'expand' and 'staged', not 'fourier'",
    ):
        gk.lift_conv2d(IMAGE, LIFT, backend="reference", algorithm="fourier")
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="backend 'cuda' cannot run conv"):
            gk.lift_conv2d(IMAGE, LIFT, backend="cuda")
        with pytest.raises(RuntimeError, match="backend 'triton' cannot run pool"):
            gk.group_max_pool(MAPS, backend="triton")


def test_a_gradient_of_another_shape_than_the_output_is_refused():
    geometry = ("p4", (1, 1), (0, 0), (1, 1), "auto", "auto")
    for grad in (torch.randn(2, 4, 4, 7, 6), torch.randn(2, 4, 3, 6, 6)):
        message = re.escape(f"grad: expected (2, 4, 4, 6, 6), got {tuple(grad.shape)}")
        with pytest.raises(ValueError, match=message):
            OPS.conv_input_grad(grad, WEIGHT, (8, 8), *geometry)
        with pytest.raises(ValueError, match=message):
            OPS.conv_weight_grad(grad, MAPS, 3, *geometry)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"kernel_size": (3, 2)}, ValueError, "kernel_size: expected a square filter, got 3 x 2"),
        ({"kernel_size": 3.0}, TypeError, "kernel_size: expected an int or a pair of ints, got 3.0"),
        ({"out_channels": 0}, ValueError, "out_channels: expected at least 1, got 0"),
        ({"padding_mode": "mirror"}, ValueError, "padding_mode: expected one of 'zeros', .* got 'mirror'"),
        ({"group": "p3"}, ValueError, "group must be"),
        ({"backend": "gpu"}, ValueError, "backend: expected one of"),
    ],
)
def test_module_arguments(options, error, message):
    with pytest.raises(error, match=message):
        gk.nn.LiftingConv2d(**{"in_channels": 3, "out_channels": 4, "kernel_size": 3, **options})
