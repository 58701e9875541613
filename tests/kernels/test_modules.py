"""The modules: parameters, padding modes, printing, copying."""

import copy
import io

import pytest
import torch

import gcnn_kernels as gk


@pytest.mark.parametrize("group, order", [("p1", 1), ("p4", 4), ("p4m", 8)])
def test_parameters_are_shaped_as_groupys(group, order):
    lift, conv = gk.nn.LiftingConv2d(3, 4, 5, group=group), gk.nn.GroupConv2d(4, 6, 3, group=group)
    assert {n: tuple(p.shape) for n, p in lift.state_dict().items()} == {"weight": (4, 3, 5, 5), "bias": (4,)}
    assert {n: tuple(p.shape) for n, p in conv.state_dict().items()} == {"weight": (6, 4, order, 3, 3), "bias": (6,)}


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [0, 1, (2, 1), "same", "valid"])
def test_padding_mode_is_that_of_conv2d(mode, padding):
    """With p1 the layers are nn.Conv2d."""
    plain = torch.nn.Conv2d(3, 4, 3, padding=padding, padding_mode=mode)
    lift = gk.nn.LiftingConv2d(3, 4, 3, padding=padding, padding_mode=mode, group="p1")
    lift.load_state_dict(plain.state_dict())
    conv = gk.nn.GroupConv2d(3, 4, 3, padding=padding, padding_mode=mode, group="p1")
    conv.load_state_dict({"weight": plain.weight.unsqueeze(2), "bias": plain.bias})
    for x in (torch.randn(2, 3, 7, 6), torch.randn(2, 3, 7, 6).contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(lift(x).squeeze(2), plain(x))
        torch.testing.assert_close(conv(x.unsqueeze(2)).squeeze(2), plain(x))
        assert lift(x).is_contiguous(memory_format=torch.channels_last_3d) == (x.stride(1) == 1)


def test_padded_group_maps_keep_their_slots():
    conv = gk.nn.GroupConv2d(2, 2, 3, padding=1, padding_mode="circular", group="p4m")
    x = torch.randn(2, 2, 8, 6, 6)
    wrapped = torch.nn.functional.pad(x.flatten(0, 2).unsqueeze(1), (1, 1, 1, 1), mode="circular").view(2, 2, 8, 8, 8)
    torch.testing.assert_close(conv(x), gk.group_conv2d(wrapped, conv.weight, conv.bias, "p4m"))


def test_repr():
    assert repr(gk.nn.LiftingConv2d(3, 8, 3)) == "LiftingConv2d(3, 8, kernel_size=3, group='p4')"
    conv = gk.nn.GroupConv2d(8, 4, 5, 2, 1, 1, False, "reflect", "D4", algorithm="expand", backend="reference")
    assert repr(conv) == (
        "GroupConv2d(8, 4, kernel_size=5, group='p4m', stride=(2, 2), padding=(1, 1), bias=False, "
        "padding_mode='reflect', algorithm='expand', backend='reference')"
    )
    norm = gk.nn.GroupBatchNorm2d(4, activation="relu")
    assert repr(norm) == "GroupBatchNorm2d(4, eps=1e-05, momentum=0.1, activation='relu')"
    assert "(scale): Linear(in_features=5, out_features=4" in repr(gk.nn.ConditionalGroupBatchNorm2d(4, 5))


def test_copy_save_and_load():
    net = torch.nn.Sequential(gk.nn.LiftingConv2d(3, 4, 3), gk.nn.GroupBatchNorm2d(4), gk.nn.GroupConv2d(4, 4, 3))
    x = torch.randn(2, 3, 8, 8)
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    twin = copy.deepcopy(net)
    for p in twin.parameters():
        torch.nn.init.zeros_(p)
    file.seek(0)
    twin.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(twin(x), net(x))


def test_initialisation_is_that_of_conv2d():
    torch.manual_seed(0)
    plain = torch.nn.Conv2d(16 * 4, 8, 3)
    torch.manual_seed(0)
    conv = gk.nn.GroupConv2d(16, 8, 3, group="p4")
    torch.testing.assert_close(conv.weight.flatten(1), plain.weight.flatten(1))
    torch.testing.assert_close(conv.bias, plain.bias)


def test_batch_norm_is_that_of_torch_on_the_flattened_map():
    ours, plain = gk.nn.GroupBatchNorm2d(3).double(), torch.nn.BatchNorm2d(3).double()
    x = torch.randn(4, 3, 8, 5, 5, dtype=torch.float64) * 3 + 1
    for _ in range(3):
        torch.testing.assert_close(ours(x), plain(x.flatten(2).unsqueeze(2)).view_as(x))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    ours.eval(), plain.eval()
    torch.testing.assert_close(ours(x), plain(x.flatten(2).unsqueeze(2)).view_as(x))


@pytest.mark.parametrize("batch", [1, 4])
def test_untracked_moments_are_those_of_the_batch(batch):
    ours = gk.nn.GroupBatchNorm2d(3, track_running_stats=False).double()
    plain = torch.nn.BatchNorm2d(3, track_running_stats=False).double()
    assert ours.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(batch, 3, 4, 5, 5).double()
    for mode in (True, False):
        y = plain.train(mode)(x.flatten(2).unsqueeze(-1)).view_as(x)
        torch.testing.assert_close(ours.train(mode)(x), y, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gk.to_plain(ours)(x), y, rtol=1e-12, atol=1e-12)


def test_cumulative_moments():
    ours = gk.nn.GroupBatchNorm2d(3, momentum=None)
    batches = [torch.randn(4, 3, 4, 5, 5) for _ in range(3)]
    for x in batches:
        ours(x)
    torch.testing.assert_close(ours.running_mean, torch.stack([x.mean((0, 2, 3, 4)) for x in batches]).mean(0))


def test_conditional_norm_scales_and_shifts_per_map():
    norm = gk.nn.ConditionalGroupBatchNorm2d(3, 5, activation="leaky_relu")
    x, c = torch.randn(4, 3, 8, 5, 5), torch.randn(4, 5)
    xhat = torch.nn.functional.batch_norm(x.flatten(2), None, None, training=True).view_as(x)
    y = (1 + norm.scale(c))[..., None, None, None] * xhat + norm.shift(c)[..., None, None, None]
    torch.testing.assert_close(norm(x, c), torch.nn.functional.leaky_relu(y, 0.2), rtol=1e-4, atol=1e-5)


def test_pools():
    x = torch.randn(2, 3, 8, 5, 5)
    torch.testing.assert_close(gk.nn.GroupMaxPool()(x), x.max(2).values)
    torch.testing.assert_close(gk.nn.GroupAvgPool()(x), x.mean(2))
    y = gk.nn.GroupAvgPool()(x.contiguous(memory_format=torch.channels_last_3d))
    assert y.is_contiguous(memory_format=torch.channels_last)
