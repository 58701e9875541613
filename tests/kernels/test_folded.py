"""Activations and statistics in the same pass as a convolution, against the separate steps."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from kernel_cases import poisoned
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, grad, jvp, vmap

import gcnn_kernels as gk
from gcnn_kernels.backends import staged
from gcnn_kernels.functional import conv_with_statistics

ACTIVATIONS = {"relu": torch.relu, "leaky_relu": lambda y: F.leaky_relu(y, 0.2)}
FOLDS = {"algorithm": "staged", "backend": "reference"}
CHOICES = {"folds": FOLDS, "does not": {"backend": "reference"}, "auto": {}}


@pytest.fixture(autouse=True)
def poisoned_memory():
    """A number that nobody wrote is NaN."""
    with poisoned():
        yield


def drawn(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def operands(group="p4", dtype=torch.float64, size=(5, 6)):
    order = gk.point_group(group).order
    shapes = (2, 3, order, *size), (4, 3, order, 3, 3), (4,)
    return [drawn(*shape, dtype=dtype, seed=i) for i, shape in enumerate(shapes)]


# --- activations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("group", ["p4", "p4m", "c8", "c3"])
def test_values_and_gradients(group, activation, choice):
    choice = CHOICES[choice] if group != "c3" else {}

    def penalised(activated):
        x, weight, bias = (t.requires_grad_() for t in operands(group))
        y = activated(x, weight, bias)
        (gx,) = torch.autograd.grad((y * drawn(*y.shape, seed=9)).sum(), x, create_graph=True)
        return y, gx, *torch.autograd.grad(gx.square().sum() + y.sum(), (x, weight, bias))

    act = ACTIVATIONS[activation]
    options = {"group": group, "padding": 1, **choice}
    found = penalised(lambda *a: gk.group_conv2d(*a, activation=activation, **options))
    expected = penalised(lambda *a: act(gk.group_conv2d(*a, **options)))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_derivatives(activation, choice):
    inputs = [t.requires_grad_() for t in operands("p4m", size=(3, 4))]

    def convolve(*a):
        return gk.group_conv2d(*a, group="p4m", padding=1, activation=activation, **CHOICES[choice])

    assert gradcheck(convolve, inputs, fast_mode=True)
    assert gradgradcheck(convolve, inputs, fast_mode=True)


@pytest.mark.parametrize("choice", ["folds", "does not"])
def test_numbers_that_are_none(choice):
    """As torch's: minus infinity to 0 or minus infinity, NaN to NaN."""
    x, weight = torch.tensor([-torch.inf, torch.nan, -1.0, 3.0]).view(1, 1, 1, 1, 4), torch.ones(1, 1, 4, 1, 1)
    x = x.expand(1, 1, 4, 1, 4) / 4
    for activation, act in ACTIVATIONS.items():
        found = gk.group_conv2d(x, weight, activation=activation, **CHOICES["does not"])
        torch.testing.assert_close(found, act(gk.group_conv2d(x, weight, backend="reference")), equal_nan=True)
    if choice == "folds":  # whose transforms subtract infinities
        found = gk.group_conv2d(x[..., 1:], weight, activation="relu", **FOLDS)
        assert found[..., 0].isnan().all() and found[..., 1].eq(0).all() and found[..., 2].eq(3).all()


def test_transforms():
    x, weight, bias = operands("p4")
    for activation, act in ACTIVATIONS.items():

        def folded(x, weight=weight, activation=activation):
            return gk.group_conv2d(x, weight, bias, padding=1, activation=activation)

        def steps(x, weight=weight, act=act):
            return act(gk.group_conv2d(x, weight, bias, padding=1))

        pairs = [
            (function(folded), function(steps))
            for function in (
                lambda f: vmap(f)(torch.stack([x, 2 * x])),
                lambda f: vmap(lambda w: f(x, w))(torch.stack([weight, -weight])),
                lambda f: jvp(f, (x,), (drawn(*x.shape, seed=5),))[1],
                lambda f: grad(lambda x: f(x).square().sum())(x),
                lambda f: grad(lambda x: grad(lambda x: f(x).square().sum())(x).square().sum())(x),
            )
        ]
        for found, expected in pairs:
            torch.testing.assert_close(found, expected)


def test_layers_and_export():
    torch.manual_seed(0)
    net = nn.Sequential(
        gk.nn.LiftingConv2d(2, 3, 3, padding=1, activation="leaky_relu", group="p4m"),
        gk.nn.GroupConv2d(3, 4, 3, padding="same", padding_mode="reflect", activation="relu", group="p4m"),
        gk.nn.GroupConv2d(4, 4, 3, group="p4m"),
    )
    steps = copy.deepcopy(net)
    steps[0].activation = steps[1].activation = None
    steps.insert(2, nn.ReLU())
    steps.insert(1, nn.LeakyReLU(0.2))
    x = torch.randn(2, 2, 9, 9)
    torch.testing.assert_close(net(x), steps(x))
    assert "activation='leaky_relu'" in repr(net[0]) and "activation" not in repr(net[2])
    plain = gk.to_plain(net)
    assert not [m for m in plain.modules() if type(m).__module__.startswith("gcnn_kernels")]
    torch.testing.assert_close(plain(x), net(x))
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), net(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert net[0](x).dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"activation: expected one of .*, got 'gelu'"):
        gk.nn.GroupConv2d(1, 1, 1, activation="gelu")
    with pytest.raises(ValueError, match="activation"):
        gk.lift_conv2d(x, torch.ones(1, 2, 1, 1), activation="gelu")


# --- statistics -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [128, 8])
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("group", ["p4", "p4m", "c8"])
def test_statistics(group, dtype, choice, rows, monkeypatch):
    """Those of the rounded map, around a mean far from 0; of one chunk and of several."""
    monkeypatch.setattr(staged, "_ROWS", rows)
    monkeypatch.setattr(staged, "WORKSPACE", 1 if rows == 8 else staged.WORKSPACE)
    x, weight, bias = operands(group, dtype)
    choice = {"algorithm": "auto", "backend": "auto"} | CHOICES[choice]
    options = 1, 1, 1, 1, *choice.values()
    y, (mean, var) = conv_with_statistics(False, x, weight, bias + 100, gk.point_group(group), *options)
    assert mean.dtype == var.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    right_var, right_mean = torch.var_mean(y.double(), (0, 2, 3, 4), correction=0)
    tolerance = {"rtol": 1e-12 if dtype == torch.float64 else 2e-5, "atol": 0}
    torch.testing.assert_close(mean.double(), right_mean, **tolerance)
    torch.testing.assert_close(var.double(), right_var, **tolerance)


def network(choice, condition):
    torch.manual_seed(1)
    conv = gk.nn.GroupConv2d(3, 4, 3, padding=1, group="p4m", **CHOICES[choice])
    norm = gk.nn.ConditionalGroupBatchNorm2d(4, 5, activation="relu") if condition else gk.nn.GroupBatchNorm2d(4)
    return nn.ModuleList([conv, norm]).double()


@pytest.mark.parametrize("condition", [False, True])
@pytest.mark.parametrize("choice", CHOICES)
def test_conv_batch_norm(choice, condition):
    """Output, running statistics, gradients and second derivatives are those of the two layers."""
    x, (conv, norm) = drawn(2, 3, 8, 5, 4), network(choice, condition)
    rest = (drawn(2, 5, seed=3),) if condition else ()

    def run(function):
        layers = network(choice, condition)
        inputs = x.clone().requires_grad_()
        y = function(*layers, inputs)
        (gx,) = torch.autograd.grad((y * drawn(*y.shape, seed=4)).sum(), inputs, create_graph=True)
        second = torch.autograd.grad(gx.square().sum() + y.square().sum(), [inputs, *layers.parameters()])
        return y, gx, layers[1].running_mean, layers[1].running_var, *second

    found = run(lambda conv, norm, x: gk.nn.conv_batch_norm(conv, norm, x, *rest))
    expected = run(lambda conv, norm, x: norm(conv(x), *rest))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    norm.eval()
    torch.testing.assert_close(gk.nn.conv_batch_norm(conv, norm, x, *rest), norm(conv(x), *rest))


def test_the_sums_are_used_where_they_come_for_nothing(monkeypatch):
    """And where a call of the convolution would do more than its forward, it is called."""
    passes, train = [], gk.backends.reference.norm.norm_train
    monkeypatch.setattr(gk.backends.reference.norm, "norm_train", lambda *a: passes.append(1) or train(*a))
    (conv, norm), x = network("folds", False), drawn(2, 3, 8, 5, 4)
    norm.backend = "reference"
    gk.nn.conv_batch_norm(conv, norm, x)
    assert not passes  # over the map by the norm, for statistics
    norm(conv(x))
    assert passes == [1]
    called = []
    handle = conv.register_forward_hook(lambda *_: called.append(1))
    gk.nn.conv_batch_norm(conv, norm, x)
    assert called == [1]
    handle.remove()
    conv.activation = "relu"
    torch.testing.assert_close(gk.nn.conv_batch_norm(conv, norm, x), norm(conv(x)))
    conv.activation = None
    identity = nn.Identity()
    torch.testing.assert_close(gk.nn.conv_batch_norm(conv, identity, x), conv(x))
    torch.testing.assert_close(gk.nn.conv_batch_norm(identity, norm, x[:, :, :4].repeat(1, 2, 1, 1, 1)[:, :4]),
                               norm(x[:, :, :4].repeat(1, 2, 1, 1, 1)[:, :4]))  # fmt: skip


def test_known_statistics_are_taken(monkeypatch):
    """A norm with ``batch_statistics`` reads the map once, and its derivatives are those of a norm without."""
    x = drawn(3, 2, 4, 3, 3).requires_grad_()
    var, mean = torch.var_mean(x.detach(), (0, 2, 3, 4), correction=0)
    monkeypatch.setattr(gk.backends.reference.norm, "norm_stats", None)
    monkeypatch.setattr(gk.backends.reference.norm, "norm_train", None)

    def derivatives(**options):
        y = gk.group_batch_norm(x, None, None, training=True, activation="relu", **options)
        (gx,) = torch.autograd.grad((y * drawn(*y.shape, seed=2)).sum(), x, create_graph=True)
        return y, gx, *torch.autograd.grad(gx.square().sum(), x)

    for found, expected in zip(
        derivatives(batch_statistics=(mean, var), backend="reference"), derivatives(), strict=True
    ):
        torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match=r"batch_statistics \(mean\): expected shape \(2,\)"):
        gk.group_batch_norm(x, None, None, training=True, batch_statistics=(mean[:1], var))


def test_transforms_of_statistics():
    (conv, norm), x = network("folds", False), drawn(2, 3, 8, 5, 4)
    norm.track_running_stats, norm.running_mean, norm.running_var, norm.num_batches_tracked = False, None, None, None
    parameters = dict(conv.named_parameters())

    def folded(x, parameters):
        copied = copy.copy(conv)
        return functional_call(_Both(copied, norm, True), {f"conv.{k}": v for k, v in parameters.items()}, (x,))

    def steps(x, parameters):
        return functional_call(_Both(conv, norm, False), {f"conv.{k}": v for k, v in parameters.items()}, (x,))

    for transform in (
        lambda f: vmap(lambda x: f(x, parameters))(torch.stack([x, x.square()])),
        lambda f: jvp(lambda x: f(x, parameters), (x,), (drawn(*x.shape, seed=5),))[1],
        lambda f: grad(lambda p: f(x, p).pow(3).sum())(parameters)["weight"],
    ):
        torch.testing.assert_close(transform(folded), transform(steps))


class _Both(nn.Module):
    def __init__(self, conv, norm, folded):
        super().__init__()
        self.conv, self.norm, self.folded = conv, norm, folded

    def forward(self, x):
        return gk.nn.conv_batch_norm(self.conv, self.norm, x) if self.folded else self.norm(self.conv(x))


def test_a_traced_or_compiled_network():
    both = _Both(*network("folds", False), True)
    x = drawn(2, 3, 8, 5, 4)
    graph = torch.fx.symbolic_trace(both)
    targets = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    assert targets == ["conv", "norm"]
    torch.testing.assert_close(torch.compile(both, fullgraph=True, backend="aot_eager")(x), both(x))


def test_without_values():
    conv, norm = network("folds", False)
    x = torch.zeros(0, 3, 8, 5, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match="more than one value per channel"):
        gk.nn.conv_batch_norm(conv, norm, x)
    assert gk.group_conv2d(x, conv.weight, group="p4m", activation="relu", **FOLDS).shape == (0, 4, 8, 3, 2)
