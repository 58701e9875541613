"""What torch's own tools do with the layers: formats, fx, FLOPs, averaging, other dtypes of numbers, other threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.flop_counter import FlopCounterMode

import gcnn_kernels as gk


def network(group="p4"):
    torch.manual_seed(0)
    return nn.Sequential(
        gk.nn.LiftingConv2d(1, 2, 3, group=group),
        gk.nn.GroupBatchNorm2d(2, activation="relu"),
        gk.nn.GroupConv2d(2, 3, 3, group=group),
        gk.nn.GroupMaxPool(),
        nn.Conv2d(3, 2, 1),
    )


@pytest.mark.parametrize("group", ["p4", "d8"])
def test_channels_last(group):
    net, x = network(group).eval(), torch.randn(2, 1, 8, 8)
    expected = net(x)
    net.to(memory_format=torch.channels_last)
    assert net[4].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(net(x.to(memory_format=torch.channels_last)), expected)
    net.to(torch.float64, memory_format=torch.channels_last)
    assert {p.dtype for p in net.parameters()} == {torch.float64}
    torch.testing.assert_close(net(x.double()).float(), expected)


def test_channels_last_3d():
    for layer in (gk.nn.LiftingConv2d(2, 3, 3), gk.nn.GroupConv2d(2, 3, 3), gk.nn.GroupLinear(2, 3)):
        before = [p.detach().clone() for p in layer.parameters()]
        layer.to(torch.float64, memory_format=torch.channels_last_3d)
        for parameter, old in zip(layer.parameters(), before, strict=True):
            assert torch.equal(parameter, old.double())


def test_other_errors_of_a_move_come_through():
    def fail(t):
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        gk.nn.GroupConv2d(2, 3, 3)._apply(fail)


def test_layers_are_leaves_of_fx():
    net, x = network("c8").eval(), torch.randn(2, 1, 8, 8)
    traced = fx.symbolic_trace(net)
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["0", "1", "2", "3", "4"]
    torch.testing.assert_close(traced(x), net(x))


def test_a_functional_call_under_fx_says_what_came():
    weight = torch.randn(2, 1, 3, 3)
    with pytest.raises(TypeError, match=r"x: expected a tensor .*, got Proxy"):
        fx.symbolic_trace(lambda x: gk.lift_conv2d(x, weight))


def test_onnx_of_the_layers_points_to_to_plain(tmp_path):
    pytest.importorskip("onnxscript")
    net, x = network("c8").eval(), torch.randn(1, 1, 8, 8)
    with pytest.warns(match="LiftingConv2d: export gcnn_kernels.to_plain"), pytest.raises(torch.onnx.OnnxExporterError):
        torch.onnx.export(net, (x,), tmp_path / "net.onnx", dynamo=True)
    torch.onnx.export(gk.to_plain(net), (x,), tmp_path / "net.onnx", dynamo=True)


def test_mkldnn_tensors_are_refused():
    with pytest.raises(TypeError, match=r"x: expected a dense tensor, layout torch\.strided, got torch\._mkldnn"):
        gk.lift_conv2d(torch.randn(1, 1, 4, 4).to_mkldnn(), torch.randn(2, 1, 3, 3))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_conditional_scale_of_another_batch_is_refused(batch):
    with pytest.raises(ValueError, match=rf"weight: expected shape \(3,\) or \(2, 3\), got \({batch}, 3\)"):
        gk.group_batch_norm(torch.randn(2, 3, 4, 5, 5), None, None, torch.ones(batch, 3), None, True)


def flops(function, *arguments, backward=False):
    with FlopCounterMode(display=False) as counter:
        y = function(*arguments)
        if backward:
            y.sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("group", ["p4m", "c8"])
def test_flops_are_the_filter_stacks(group, groups):
    layer = gk.nn.GroupConv2d(2, 4, 3, stride=2, padding=1, group=group, groups=groups)
    x = torch.randn(2, 2, layer.point_group.order, 7, 7, requires_grad=True)
    planar, stack = x.detach().flatten(1, 2).requires_grad_(), gk.expand_filters(layer.weight, group).detach()
    stack = stack.requires_grad_()
    once = flops(lambda: F.conv2d(planar, stack, None, 2, 1, 1, groups))
    assert flops(layer, x) == once > 0
    assert flops(layer, x, backward=True) == 3 * once  # torch's own count forgets the groups of the weight's gradient


def test_flops_of_a_linear_layer_are_the_matrix_products():
    layer, x = gk.nn.GroupLinear(3, 5, group="p4m"), torch.randn(2, 7, 3, 8, requires_grad=True)
    planar, matrix = torch.randn(14, 24, requires_grad=True), torch.randn(40, 24, requires_grad=True)
    for backward in (False, True):
        assert flops(layer, x, backward=backward) == flops(F.linear, planar, matrix, backward=backward) > 0


def test_update_bn_finds_the_norms():
    net = network()
    averaged = AveragedModel(net)
    data = [torch.randn(4, 1, 8, 8) + 5 for _ in range(3)]
    update_bn(data, averaged)
    norm = averaged.module[1]
    maps = torch.cat([net[0](x) for x in data])
    torch.testing.assert_close(norm.running_mean, maps.mean((0, 2, 3, 4)))
    assert norm.num_batches_tracked == 3


def test_conversion_to_sync_batch_norm_is_refused():
    with pytest.raises(TypeError, match=r"convert_sync_batchnorm: cannot convert GroupBatchNorm2d; .*sync=True"):
        nn.SyncBatchNorm.convert_sync_batchnorm(network())
    assert gk.nn.GroupBatchNorm2d(2).affine and not gk.nn.GroupBatchNorm2d(2, affine=False).affine


@pytest.mark.parametrize("number", [np.int64, np.int32, lambda n: (n,), lambda n: [n]])
def test_sizes_as_torch_takes_them(number):
    x, weight = torch.randn(1, 2, 4, 7, 7), torch.randn(2, 2, 4, 3, 3)
    sizes = {"stride": number(2), "padding": number(1), "dilation": number(1)}
    expected = gk.group_conv2d(x, weight, stride=2, padding=1)
    assert torch.equal(gk.group_conv2d(x, weight, **sizes), expected)
    layer = gk.nn.GroupConv2d(2, 2, number(3), bias=False, **sizes)
    assert (layer.kernel_size, layer.stride) == (3, (2, 2)) and type(layer.kernel_size) is int
    with torch.no_grad():
        layer.weight.copy_(weight)
    assert torch.equal(layer(x), expected)


def test_channels_of_numpy():
    two, four = np.int64(2), np.int32(4)
    for layer in (
        gk.nn.LiftingConv2d(two, four, 3, groups=two),
        gk.nn.GroupConvTranspose2d(two, four, np.int64(3)),
        gk.nn.GroupBatchNorm2d(two),
        gk.nn.GroupLinear(two, four),
        gk.nn.GroupLayerNorm2d(two),
        gk.nn.GroupSelfAttention2d(four, two),
        gk.nn.SpatialBlurPool2d(np.int64(3), two),
    ):
        sizes = [v for v in vars(layer).values() if isinstance(v, np.integer)]
        assert sizes == []


def test_no_weight_gradients_of_one_thread_only():
    layer = gk.nn.GroupConv2d(1, 1, 3)
    x = torch.randn(1, 1, 4, 5, 5)
    inside, done = threading.Event(), threading.Event()

    def skip():
        with gk.no_weight_gradients():
            inside.set()
            done.wait(10)

    other = threading.Thread(target=skip)
    other.start()
    inside.wait(10)
    layer(x).sum().backward()
    done.set()
    other.join()
    assert layer.weight.grad is not None and layer.bias.grad is not None


def test_no_weight_gradients_nested():
    layer, x = gk.nn.GroupConv2d(1, 1, 3), torch.randn(1, 1, 4, 5, 5, requires_grad=True)
    with gk.no_weight_gradients():
        with gk.no_weight_gradients():
            pass
        layer(x).sum().backward()
    assert layer.weight.grad is None and x.grad is not None


def test_a_port_of_groupys_state_dict():
    layer, weight = gk.nn.LiftingConv2d(2, 3, 3), torch.randn(3, 2, 1, 3, 3)
    theirs = {"weight": weight, "bias": torch.zeros(3)}
    layer.load_state_dict(theirs)
    assert torch.equal(layer.weight, weight[:, :, 0]) and theirs["weight"].dim() == 5
    net = nn.Sequential(layer)
    net.load_state_dict({f"0.{name}": value for name, value in theirs.items()})
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict({"weight": torch.randn(3, 2, 4, 3, 3), "bias": torch.zeros(3)})


def test_a_batch_norm_without_num_batches_tracked():
    norm = gk.nn.GroupBatchNorm2d(2)
    theirs = {
        "weight": torch.ones(2),
        "bias": torch.zeros(2),
        "running_mean": torch.ones(2),
        "running_var": torch.ones(2),
    }
    norm.load_state_dict(theirs)
    assert torch.equal(norm.running_mean, torch.ones(2)) and norm.num_batches_tracked == 0
    with pytest.raises(RuntimeError, match="running_var"):
        norm.load_state_dict({name: t for name, t in theirs.items() if name != "running_var"})
