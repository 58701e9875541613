"""Forward mode, ``torch.func`` and ``torch.vmap`` of every operator: each has its rules, no fallback and no silence."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap

import gcnn_kernels as gk


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def _train_norm(x, weight, bias):
    return gk.group_batch_norm(x, None, None, weight, bias, training=True, activation="leaky_relu")


def _eval_norm(x, weight, bias):
    mean, var = torch.tensor([[0.3, -1.0], [0.7, 2.0]], dtype=torch.float64)
    return gk.group_batch_norm(x, mean, var, weight, bias, training=False, activation="leaky_relu")


MAP, PARAMETERS = (2, 2, 4, 3, 3), (2,)
FUNCTIONS = {
    "lift": (lambda x, w, b: gk.lift_conv2d(x, w, b, "p4m", padding=1), (2, 1, 4, 4), (2, 1, 3, 3), (2,)),
    "conv": (lambda x, w, b: gk.group_conv2d(x, w, b, "p4", stride=2, padding=1), MAP, (3, 2, 4, 3, 3), (3,)),
    "conv c8": (lambda x, w: gk.group_conv2d(x, w, None, "c8", padding=1), (1, 1, 8, 3, 3), (1, 1, 8, 3, 3)),
    "grouped conv": (lambda x, w, b: gk.group_conv2d(x, w, b, "p4", groups=2), MAP, (4, 1, 4, 3, 3), (4,)),
    "grouped conv d8": (lambda x, w: gk.group_conv2d(x, w, None, "d8", groups=2), (1, 2, 16, 3, 3), (2, 1, 16, 3, 3)),
    "transposed conv": (
        lambda x, w, b: gk.group_conv_transpose2d(x, w, b, "p4", stride=2, groups=2),
        (1, 2, 4, 2, 2),
        (2, 1, 4, 3, 3),
        (2,),
    ),
    "linear": (lambda x, w, b: gk.group_linear(x, w, b, "p4m"), (3, 2, 8), (4, 2, 8), (4,)),
    "expand_filters": (lambda w: gk.expand_filters(w, "d8"), (1, 1, 16, 3, 3)),
    "norm": (_train_norm, MAP, PARAMETERS, PARAMETERS),
    "norm of samples": (_train_norm, MAP, (2, 2), (2, 2)),
    "norm, eval": (_eval_norm, MAP, PARAMETERS, (2, 2)),
    "max": (gk.group_max_pool, MAP),
    "mean": (gk.group_avg_pool, MAP),
    "restrict": (lambda x: gk.restrict(x, "p4", "p1"), MAP),
}


@pytest.fixture(params=FUNCTIONS)
def case(request):
    """A function and its arguments in float64."""
    torch.manual_seed(0)
    function, *shapes = FUNCTIONS[request.param]
    return function, [drawn(*shape) for shape in shapes]


@pytest.fixture(autouse=True)
def no_fallback():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*performance drop.*")
        yield


def test_first_derivatives(case):
    function, arguments = case
    arguments = [a.requires_grad_() for a in arguments]
    assert torch.autograd.gradcheck(
        function, arguments, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )


def test_second_derivatives(case):
    function, arguments = case
    arguments = [a.requires_grad_() for a in arguments]
    assert torch.autograd.gradgradcheck(
        function, arguments, check_fwd_over_rev=True, check_rev_over_rev=True, check_batched_grad=True
    )


def test_transforms_agree(case):
    function, arguments = case
    numbers = tuple(range(len(arguments)))
    tangents = [torch.randn_like(a) for a in arguments]
    y, tangent = jvp(function, tuple(arguments), tuple(tangents))
    pulled = vjp(function, *arguments)[1](torch.ones_like(y))
    pairing = sum((p * t).sum() for p, t in zip(pulled, tangents, strict=True))
    torch.testing.assert_close(tangent.sum(), pairing)
    torch.testing.assert_close(linearize(function, *arguments)[1](*tangents), tangent)
    forward, reverse = (jac(function, numbers)(*arguments) for jac in (jacfwd, jacrev))
    torch.testing.assert_close(forward, reverse)

    def total(*arguments):
        return function(*arguments).square().sum()

    torch.testing.assert_close(hessian(total, numbers)(*arguments), jacrev(jacrev(total, numbers), numbers)(*arguments))


def test_only_what_varies_has_a_tangent(case):
    function, arguments = case
    for i, argument in enumerate(arguments):

        def of_one(a, i=i):
            return function(*arguments[:i], a, *arguments[i + 1 :])

        direction = torch.randn_like(argument)
        tangent = jvp(of_one, (argument,), (direction,))[1]
        step = 1e-6 * direction
        torch.testing.assert_close(
            tangent, (of_one(argument + step) - of_one(argument - step)) / 2e-6, rtol=1e-5, atol=1e-6
        )


def test_vmap_over_every_set_of_arguments(case):
    function, arguments = case
    for chosen in range(1, 2 ** len(arguments)):
        dims = tuple(0 if chosen >> i & 1 else None for i in range(len(arguments)))
        batched = [
            a if d is None else torch.randn(3, *a.shape, dtype=a.dtype) for a, d in zip(arguments, dims, strict=True)
        ]
        expected = torch.stack([
            function(*(a if d is None else a[i] for a, d in zip(batched, dims, strict=True))) for i in range(3)
        ])  # fmt: skip
        torch.testing.assert_close(vmap(function, dims)(*batched), expected)
        moved = [a if d is None else a.movedim(0, -1) for a, d in zip(batched, dims, strict=True)]
        last = tuple(d if d is None else -1 for d in dims)
        torch.testing.assert_close(vmap(function, last, out_dims=1)(*moved), expected.movedim(0, 1))


@pytest.mark.parametrize("group", ["p4", "p4m", "c8"])
def test_gradients_of_every_sample(group):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        gk.nn.LiftingConv2d(1, 2, 3, padding=1, group=group),
        gk.nn.GroupBatchNorm2d(2).eval(),
        torch.nn.Tanh(),
        gk.nn.GroupConv2d(2, 3, 3, stride=2, group=group),
        gk.nn.GroupMaxPool(),
    ).double()
    x, parameters = drawn(4, 1, 5, 5), dict(net.named_parameters())
    buffers = dict(net.named_buffers())

    def loss(parameters, image):
        return functional_call(net, (parameters, buffers), (image[None],)).square().sum()

    found = vmap(grad(loss), (None, 0))(parameters, x)
    for i, image in enumerate(x):
        expected = torch.autograd.grad(net(image[None]).square().sum(), list(net.parameters()))
        for (name, gradients), one in zip(found.items(), expected, strict=True):
            torch.testing.assert_close(gradients[i], one, msg=name)


def test_an_ensemble():
    torch.manual_seed(0)
    nets = [gk.nn.GroupConv2d(2, 3, 3, group="p4m").double() for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(nets)
    x = drawn(2, 2, 8, 5, 5)
    found = vmap(lambda p, b: functional_call(nets[0], (p, b), (x,)))(parameters, buffers)
    torch.testing.assert_close(found, torch.stack([net(x) for net in nets]))


def test_forward_mode_through_dual_tensors():
    layer, x, v = gk.nn.GroupConv2d(1, 1, 3).double(), drawn(1, 1, 4, 4, 4), drawn(1, 1, 4, 4, 4)
    with torch.autograd.forward_ad.dual_level():
        dual = layer(torch.autograd.forward_ad.make_dual(x, v))
        tangent = torch.autograd.forward_ad.unpack_dual(dual).tangent
    torch.testing.assert_close(tangent, layer(v) - layer(torch.zeros_like(v)))
