"""Weights from other libraries give the other libraries' outputs."""

import pytest
import torch

import gcnn_kernels as gk
from gcnn_kernels.interop import from_filter_stack, load_escnn


@pytest.mark.parametrize("group", ["p4", "p4m"])
@pytest.mark.parametrize("lifting", [True, False])
def test_base_filter_of_a_stack(group, lifting):
    point = gk.point_group(group)
    weight = torch.randn(3, 2, *([] if lifting else [point.order]), 3, 3)
    in_slots = 1 if lifting else point.order
    found = from_filter_stack(gk.expand_filters(weight, group), point, in_slots)
    torch.testing.assert_close(found, weight)


def test_mirror_elements_in_another_order():
    """escnn's default axis: its slots 4 ... 7 are our 6, 5, 4, 7."""
    theirs = torch.tensor([0, 1, 2, 3, 6, 5, 4, 7])
    weight = torch.randn(3, 2, 8, 3, 3)
    poses = gk.expand_filters(weight, "p4m").reshape(3, 8, 2, 8, 3, 3)
    stack = poses[:, theirs][:, :, :, theirs].reshape(24, 16, 3, 3)
    torch.testing.assert_close(from_filter_stack(stack, gk.point_group("p4m"), 8), weight)


def test_a_stack_of_something_else_is_refused():
    with pytest.raises(ValueError, match="are not the poses of one filter under the group 'p4'"):
        from_filter_stack(torch.randn(8, 8, 3, 3), gk.point_group("p4"), 4)
    with pytest.raises(ValueError, match=r"stack: expected \[Cout \* 4, Cin \* 4, k, k\].*got \(6, 8, 3, 3\)"):
        from_filter_stack(torch.randn(6, 8, 3, 3), gk.point_group("p4"), 4)


@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_escnn(group):
    escnn = pytest.importorskip("escnn", reason="escnn is not installed (it needs a Fortran compiler)")
    space = escnn.gspaces.rot2dOnR2(4) if group == "p4" else escnn.gspaces.flipRot2dOnR2(4)
    image, maps = (
        escnn.nn.FieldType(space, count * [representation])
        for count, representation in ((2, space.trivial_repr), (3, space.regular_repr))
    )
    theirs = escnn.nn.SequentialModule(
        escnn.nn.R2Conv(image, maps, 5, padding=2), escnn.nn.R2Conv(maps, maps, 3, padding=1)
    )
    for conv in theirs:
        torch.nn.init.normal_(conv.bias)
    lift, conv = (
        gk.nn.LiftingConv2d(2, 3, 5, padding=2, group=group),
        gk.nn.GroupConv2d(3, 3, 3, padding=1, group=group),
    )
    load_escnn(lift, theirs[0])
    load_escnn(conv, theirs[1])
    x = torch.randn(2, 2, 9, 9)
    pooled = theirs(escnn.nn.GeometricTensor(x, image)).tensor.unflatten(1, (3, -1)).amax(2)
    torch.testing.assert_close(gk.group_max_pool(conv(lift(x))), pooled, rtol=1e-4, atol=1e-5)
