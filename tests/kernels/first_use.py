"""Uses of the library as the first thing in a process; test_first_use.py runs this file and reads what it prints.

Each case has a process of its own, a fork of one that has imported everything and called nothing.
"""

from __future__ import annotations

import os
import sys
import traceback
from functools import partial

import torch
import torch._dynamo
import torch.export

import gcnn_kernels as gk

ORDERS = {"p4": 4, "p4m": 8, "c8": 8, "d8": 16}


def network(group):
    torch.manual_seed(0)
    layers = gk.nn.LiftingConv2d(1, 2, 5, padding=2, group=group), gk.nn.GroupBatchNorm2d(2)
    return torch.nn.Sequential(*layers, gk.nn.GroupConv2d(2, 2, 3, group=group), gk.nn.GroupMaxPool()).eval()


def functions(group):
    """Every public function that reads a table of the group, and an argument for it."""
    torch.manual_seed(0)
    order = ORDERS[group]
    filters, lifting = torch.randn(2, 2, order, 3, 3), torch.randn(2, 1, 5, 5)
    image, feature_map = torch.randn(2, 1, 6, 6), torch.randn(2, 2, order, 6, 6)
    yield lambda x: gk.lift_conv2d(x, lifting, group=group), image
    yield lambda x: gk.group_conv2d(x, filters, group=group), feature_map
    yield lambda w: gk.expand_filters(w, group), filters
    yield lambda x: gk.restrict(x, group, "p1"), feature_map
    yield lambda x: gk.group_conv_transpose2d(x, filters, group=group, stride=2), feature_map
    for algorithm in ("fourier", "expand"):
        weight = torch.randn(3, 2, order)
        yield lambda x, w=weight, a=algorithm: gk.group_linear(x, w, group=group, algorithm=a), torch.randn(5, 2, order)


def compiled_network(group):
    net, x = network(group), torch.randn(2, 1, 6, 6)
    torch.testing.assert_close(torch.compile(net, fullgraph=True, backend="aot_eager")(x), net(x))


def compiled_function(group, number):
    function, x = list(functions(group))[number]
    torch.testing.assert_close(torch.compile(function, fullgraph=True, backend="aot_eager")(x), function(x))


def functions_under_modes_first(group):
    """What was made under a mode is neither kept nor in the way of a derivative."""
    from torch._subclasses import FakeTensorMode

    for function, x in functions(group):
        with FakeTensorMode(allow_non_fake_inputs=True):
            function(torch.empty(x.shape))
        torch.export.export(Function(function), (x,))
        with torch.inference_mode():
            expected = function(x)
        with torch.device("meta"):
            torch.testing.assert_close(function(x), expected)
        y = function(x.requires_grad_())
        torch.testing.assert_close(y, expected)
        y.sum().backward()
        assert x.grad.abs().sum() > 0


class Function(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def exported(group):
    net, x = network(group), torch.randn(2, 1, 6, 6)
    program = torch.export.export(net, (x,))
    y = net(x)
    torch.testing.assert_close(program.module()(x), y)
    torch.testing.assert_close(gk.to_plain(net)(x), y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(y, by_reference(net, x), rtol=1e-4, atol=1e-5)


def inference_first(group):
    net, x = network(group), torch.randn(2, 1, 6, 6)
    with torch.inference_mode():
        y = net(x)
    torch.testing.assert_close(y, net(x))
    net(x).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def default_device_first(group):
    net, x = network(group), torch.randn(2, 1, 6, 6)
    with torch.device("meta"):
        y = net(x)
    torch.testing.assert_close(y, by_reference(net, x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(y, net(x))


def meta_first(group):
    net, x = network(group), torch.randn(2, 1, 6, 6)
    assert network(group).to("meta")(x.to("meta")).is_meta
    torch.testing.assert_close(net(x), by_reference(net, x), rtol=1e-4, atol=1e-5)


def fake_first(group):
    from torch._subclasses import FakeTensorMode

    net, x = network(group), torch.randn(2, 1, 6, 6)
    with FakeTensorMode(allow_non_fake_inputs=True):
        net(torch.randn(2, 1, 6, 6))
    torch.testing.assert_close(net(x), by_reference(net, x), rtol=1e-4, atol=1e-5)


def by_reference(net, x):
    """The network by ``torch.nn.functional`` and numpy's tables, which no mode reaches."""
    for layer in net:
        if isinstance(layer, (gk.nn.LiftingConv2d, gk.nn.GroupConv2d)):
            x = by_stack(layer, x)
        elif isinstance(layer, gk.nn.GroupBatchNorm2d):
            x = (x - layer.running_mean.view(-1, 1, 1, 1)) / (layer.running_var.view(-1, 1, 1, 1) + layer.eps).sqrt()
        else:
            x = x.amax(2)
    return x


def by_stack(layer, x):
    """Pose by pose: h turns the filter's taps by interpolation and permutes its slots."""
    group, k = layer.point_group, layer.kernel_size
    weight = layer.weight.detach().double()
    weight = weight if weight.dim() == 5 else weight[:, :, None]
    if group.on_grid:
        matrices = torch.nn.functional.one_hot(torch.from_numpy(group.tap_action(k)), k * k).double()
        matrices = matrices.mT  # [h, target, source] -> tap at target
    else:
        matrices = by_cosets(group, k)
    poses = []
    for h in range(group.order):
        rotated = torch.einsum("uv,oisv->oisu", matrices[h], weight.flatten(3))
        if weight.shape[2] > 1:
            rotated = rotated[:, :, group.quotient[h]]
        poses.append(rotated)
    stack = torch.stack(poses, 1).flatten(0, 1).unflatten(-1, (k, k)).flatten(1, 2)
    planes = x.double() if x.dim() == 4 else x.double().flatten(1, 2)
    bias = layer.bias.detach().double().repeat_interleave(group.order)
    y = torch.nn.functional.conv2d(planes, stack, bias, padding=layer.padding)
    return y.unflatten(1, (-1, group.order)).to(x.dtype)


def by_cosets(group, k):
    """Element q a + j is the grid's element a times R^j: the tap is interpolated by R^j and then permuted by a."""
    rotations = torch.from_numpy(group.filter_rotations(k))
    sub = group.grid_subgroup
    permutations = torch.nn.functional.one_hot(torch.from_numpy(sub.tap_action(k)), k * k).double().mT
    q = group.cosets
    return torch.stack([permutations[h // q] @ rotations[h % q] for h in range(group.order)])


CASES = {
    f"{case.__name__} {group}": partial(case, group)
    for case in (
        compiled_network,
        functions_under_modes_first,
        exported,
        inference_first,
        default_device_first,
        meta_first,
        fake_first,
    )
    for group in ORDERS
} | {
    f"compiled_function {group} {number}": partial(compiled_function, group, number)
    for group in ORDERS
    for number in range(len(list(functions("p4"))))
}


def main():
    torch.set_num_threads(1)
    for name, case in CASES.items():
        sys.stdout.flush()
        if os.fork() == 0:
            try:
                case()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(name, "passed" if os.waitstatus_to_exitcode(os.wait()[1]) == 0 else "FAILED", sep=": ")


if __name__ == "__main__":
    main()
