"""Group batch norm: kernels, derivatives, statistics, ranks."""

from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from kernel_cases import (
    AFFINES_AND_SLOPES,
    DTYPES,
    EMPTY_SHAPES,
    FORMATS,
    SHAPES,
    affine_parameters,
    check_norm,
    check_norm_of_nothing,
    check_statistics_without_cancellation,
    random_map,
)  # fmt: skip

import gcnn_kernels as gk
from gcnn_kernels.backends import BACKENDS
from gcnn_kernels.backends.base import Affine
from gcnn_kernels.ops.library import OPS

CPU = torch.device("cpu")
ON_CPU = [name for name, b in BACKENDS.items() if not (b.unavailable() or b.unsupported(CPU, torch.float32))]
COMPILED = [name for name in ON_CPU if name != "reference"]
ACTIVATIONS = {None: lambda y: y, "relu": F.relu, "leaky_relu": lambda y: F.leaky_relu(y, 0.2)}


def format_name(memory_format):
    return str(memory_format).split(".")[1]


@pytest.mark.parametrize("memory_format", FORMATS, ids=format_name)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backend", COMPILED)
def test_kernels(backend, dtype, memory_format):
    torch.manual_seed(0)
    for shape in SHAPES:
        for affine, slope in AFFINES_AND_SLOPES:
            check_norm(BACKENDS[backend], "cpu", dtype, shape, memory_format, affine, slope)


@pytest.mark.parametrize("memory_format", FORMATS, ids=format_name)
@pytest.mark.parametrize("backend", ON_CPU)
def test_empty_maps(backend, memory_format):
    for shape in EMPTY_SHAPES:
        check_norm_of_nothing(BACKENDS[backend], "cpu", shape, memory_format)


@pytest.mark.parametrize("memory_format", FORMATS, ids=format_name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("backend", COMPILED)
def test_statistics_do_not_cancel(backend, dtype, memory_format):
    torch.manual_seed(0)
    check_statistics_without_cancellation(BACKENDS[backend], "cpu", dtype, memory_format)


@pytest.mark.parametrize("memory_format", FORMATS, ids=format_name)
@pytest.mark.parametrize("backend", COMPILED)
def test_results_do_not_depend_on_the_number_of_threads(backend, memory_format):
    kernels, threads = BACKENDS[backend], torch.get_num_threads()
    x, grad = (random_map((5, 11, 8, 33, 31), torch.float32, "cpu", memory_format) for _ in range(2))
    weight, bias = affine_parameters("per sample", x.shape, torch.float32, "cpu")

    def run():
        mean, var = kernels.norm.norm_stats(x)
        arguments = (mean, var.rsqrt(), Affine(weight, bias, 0.2))
        sums = kernels.norm.norm_backward_sums(grad, x, *arguments)
        gx = kernels.norm.norm_backward_input(grad, x, *arguments, sums[0].sum(0), sums[1].sum(0))
        return mean, var, kernels.norm.norm_apply(x, *arguments), *sums, gx

    try:
        results = []
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            results.append(run())
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("backend", ON_CPU)
def test_equals_batch_norm_of_the_flattened_map(backend, training):
    """Output, running statistics and gradients, in float64."""
    torch.manual_seed(0)
    for activation, function in ACTIVATIONS.items():
        x = random_map((3, 5, 4, 6, 7), torch.float64, "cpu", torch.channels_last_3d).requires_grad_()
        weight, bias = (torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(2))
        grad = torch.randn(x.shape, dtype=torch.float64)
        moments = [torch.randn(5, dtype=torch.float64), torch.rand(5, dtype=torch.float64) + 0.5]
        expected_moments = [m.clone() for m in moments]
        y = gk.group_batch_norm(x, *moments, weight, bias, training, 0.3, 1e-3, activation, backend=backend)
        flat = F.batch_norm(x.flatten(2), *expected_moments, weight, bias, training, 0.3, 1e-3)
        expected = function(flat.view_as(x))
        torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(moments, expected_moments, rtol=1e-12, atol=1e-12)
        found = torch.autograd.grad(y, (x, weight, bias), grad)
        torch.testing.assert_close(
            found, torch.autograd.grad(expected, (x, weight, bias), grad), rtol=1e-10, atol=1e-10
        )


@pytest.mark.parametrize("backend", ON_CPU)
def test_running_moments_may_be_absent_in_training(backend):
    x = torch.randn(3, 5, 4, 6, 7)
    y = gk.group_batch_norm(x, None, None, training=True, backend=backend)
    torch.testing.assert_close(
        y, F.batch_norm(x.flatten(2), None, None, training=True).view_as(x), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("backend", ON_CPU)
def test_images_and_slices(backend):
    """4-D maps, and maps with gaps or other strides, give what their compact copies give."""
    torch.manual_seed(0)
    maps = torch.randn(4, 6, 4, 7, 9)
    for x in (maps[:, :, 1], maps[:, 1:4], maps[..., ::2], maps.transpose(3, 4), maps.movedim(1, 4)[:, :4]):
        y = gk.group_batch_norm(x, None, None, training=True, activation="relu", backend=backend)
        flat = x.double().flatten(2)
        expected = F.batch_norm(flat, None, None, training=True).view(x.shape).relu()
        torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("affine", ["none", "per map", "per sample"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("backend", ON_CPU)
def test_derivatives(backend, training, affine, batch):
    """gradcheck and gradgradcheck with every activation."""
    torch.manual_seed(0)
    shape = (batch, 2, 4, 1, 2)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    given = [p for p in affine_parameters(affine, shape, torch.float64, "cpu") if p is not None]
    given = [p.requires_grad_() for p in given]
    moments = (torch.randn(2, dtype=torch.float64), torch.rand(2, dtype=torch.float64) + 0.5)
    for activation in ACTIVATIONS:

        def norm(x, *given, activation=activation):
            kept = [m.clone() for m in moments]
            parameters = given or (None, None)
            return gk.group_batch_norm(x, *kept, *parameters, training, activation=activation, backend=backend)

        assert torch.autograd.gradcheck(norm, (x, *given))
        assert torch.autograd.gradgradcheck(norm, (x, *given))


@pytest.mark.parametrize("memory_format", FORMATS, ids=format_name)
@pytest.mark.parametrize("affine", ["none", "per map", "per sample"])
@pytest.mark.parametrize("backend", ON_CPU)
def test_opcheck(backend, affine, memory_format):
    shape, double = (2, 3, 4, 5, 5), torch.float64
    x, grad = (random_map(shape, double, "cpu", memory_format).requires_grad_() for _ in range(2))
    given = [p if p is None else p.requires_grad_() for p in affine_parameters(affine, shape, double, "cpu")]
    mean, var, count = torch.randn(3, dtype=double), torch.rand(3, dtype=double) + 0.5, torch.tensor(200.0).double()
    torch.library.opcheck(OPS.batch_norm.default, (x, *given, 1e-5, 0.2, False, backend))
    torch.library.opcheck(OPS.batch_norm_eval.default, (x, mean, var, *given, 1e-5, 0.2, backend))
    for n in (count, None):
        arguments = (grad, x, mean, var, *given, n, 1e-5, 0.2, False, backend)
        torch.library.opcheck(OPS.batch_norm_backward.default, arguments)


@pytest.mark.parametrize("backend", ON_CPU)
def test_half_precision_maps_with_float_parameters(backend):
    """As under autocast: parameters, running moments and their gradients stay in float32."""
    torch.manual_seed(0)
    x = torch.randn(4, 3, 4, 8, 8).bfloat16().requires_grad_()
    weight, bias = (torch.randn(4, 3).requires_grad_() for _ in range(2))
    moments = torch.zeros(3), torch.ones(3)
    y = gk.group_batch_norm(x, *moments, weight, bias, True, backend=backend)
    gx, gw, gb = torch.autograd.grad(y, (x, weight, bias), torch.ones_like(y))
    assert y.dtype == gx.dtype == torch.bfloat16 and gw.dtype == gb.dtype == torch.float32
    torch.testing.assert_close(gb, torch.full_like(gb, 4 * 64))
    torch.testing.assert_close(moments[0], 0.1 * x.detach().float().mean((0, 2, 3, 4)))


def joint_problem():
    torch.manual_seed(0)
    x = torch.randn(5, 3, 4, 4, 4, dtype=torch.float64) * torch.linspace(0.1, 3, 5).view(5, 1, 1, 1, 1) + 2
    v = torch.randn(x.shape, dtype=torch.float64)
    weight, bias = torch.randn(5, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    return x, v, weight, bias


def losses(x, v, weight, bias, sync):
    """Output, running moments, gradients of a loss, and gradients of the squared norm of its gradient."""
    x, weight, bias = (t.clone().requires_grad_() for t in (x, weight, bias))
    moments = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    y = gk.group_batch_norm(x, *moments, weight, bias, True, activation="leaky_relu", sync=sync)
    first = torch.autograd.grad((y * v).sum(), (x, weight, bias), create_graph=True)
    second = torch.autograd.grad(first[0].square().sum(), (x, weight, bias), materialize_grads=True)
    return [t.detach() for t in (y, *moments, *first, *second)]


def run_rank(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    part = slice(0, 2) if rank == 0 else slice(2, 5)  # ranks may have batches of different sizes
    x, v, weight, bias = joint_problem()
    torch.save(losses(x[part], v[part], weight[part], bias, True), f"{folder}/{rank}.pt")
    dist.barrier()
    os._exit(0)  # an orderly exit has been seen to abort in gloo ("terminate called without an active exception")


def test_two_ranks_are_one_batch(tmp_path):
    """With sync=True: outputs, running moments, gradients and second derivatives are those of the joint batch."""
    torch.multiprocessing.spawn(run_rank, (str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    expected = losses(*joint_problem(), False)
    names = ["y", "running mean", "running var", "gx", "gw", "gb", "ggx", "ggw", "ggb"]
    for name, whole, *parts in zip(names, expected, *ranks, strict=True):
        if name.startswith("running"):
            joined = parts
        elif name.endswith("gb"):
            joined = [sum(parts)]  # a parameter of all samples: the sum over ranks
        else:
            joined = [torch.cat(parts)]
        for found in joined:
            torch.testing.assert_close(found, whole, rtol=1e-9, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")


X, ZEROS, ONES = torch.randn(2, 3, 4, 5, 5), torch.zeros(3), torch.ones(3)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"x": X[0, 0]}, ValueError, r"x: expected \[B, C, order, H, W\] or \[B, C, H, W\], got 3 dimensions"),
        ({"x": X.numpy()}, TypeError, "x: expected a tensor .*, got ndarray"),
        ({"x": X.int()}, TypeError, "x: expected a floating-point dtype, got torch.int32"),
        ({"x": X[:, :0]}, ValueError, r"x: expected at least one channel, got shape \(2, 0, 4, 5, 5\)"),
        ({"x": X[:1, :, :1, :1, :1]}, ValueError, r"x: expected more than one value per channel when training, got"),
        ({"x": X[:0]}, ValueError, r"x: expected more than one value per channel when training, got"),
        ({"running_mean": ZEROS[:2]}, ValueError, r"running_mean: expected shape \(3,\), got \(2,\)"),
        ({"running_var": ONES[None]}, ValueError, r"running_var: expected \[3\], got 2 dimensions"),
        ({"running_var": ONES.to("meta")}, ValueError, "running_var: expected device cpu as x has, got meta"),
        ({"running_mean": None, "training": False}, ValueError, r"running_mean: expected a tensor \[3\] when not"),
        ({"running_var": None, "training": False}, ValueError, r"running_var: expected a tensor \[3\] when not"),
        ({"weight": torch.ones(4)}, ValueError, r"weight: expected shape \(3,\) or \(2, 3\), got \(4,\)"),
        ({"weight": torch.ones(3, 3)}, ValueError, r"weight: expected shape \(3,\) or \(2, 3\), got \(3, 3\)"),
        ({"bias": torch.ones(1, 2, 3)}, ValueError, r"bias: expected \[3\] or \[2, 3\], got 3 dimensions"),
        ({"bias": torch.ones(3).int()}, TypeError, "bias: expected a floating-point dtype, got torch.int32"),
        ({"bias": torch.ones(3, device="meta")}, ValueError, "bias: expected device cpu as x has, got meta"),
        ({"activation": "gelu"}, ValueError, "activation: expected one of None, 'relu', 'leaky_relu', got 'gelu'"),
        ({"backend": "opencl"}, ValueError, "backend: expected one of 'auto', .*, got 'opencl'"),
        ({"sync": True}, RuntimeError, "sync: expected an initialised torch.distributed process group, got none"),
    ],
)
def test_bad_input_is_refused(change, error, message):
    arguments = {"x": X, "running_mean": ZEROS, "running_var": ONES, "training": True} | change
    with pytest.raises(error, match=message):
        gk.group_batch_norm(**arguments)


def test_an_explicit_backend_that_cannot_serve_says_why():
    with pytest.raises(RuntimeError, match=r"backend 'cuda' cannot run norm on a torch.float32 tensor on cpu: "):
        gk.group_batch_norm(X, ZEROS, ONES, backend="cuda")
