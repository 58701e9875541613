"""check_equivariance: it names the layer that breaks equivariance, and finds nothing where nothing is broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gcnn_kernels as gk
from gcnn_kernels.check import main

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 4


class Network(nn.Module):
    """A small classifier. What stands between its layers is given, and may break it."""

    def __init__(self, group="p4", between=None, *, code=None, head=None, lift=None):
        super().__init__()
        self.code = code
        self.lift = lift or gk.nn.LiftingConv2d(3, WIDTH, 3, padding=1, group=group)
        self.norm = gk.nn.GroupBatchNorm2d(WIDTH, activation="relu")
        self.between = between or nn.Identity()
        self.last = gk.nn.GroupConv2d(WIDTH, WIDTH, 3, padding=1, group=group)
        self.pool = gk.nn.GroupMaxPool()
        self.head = head or nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 5))

    def forward(self, x):
        x = self.between(self.norm(self.lift(x)))
        if self.code:
            x = self.code(x)
        return self.head(self.pool(self.last(x)))


class Flattened(nn.Module):
    """A plain layer on maps and slots flattened to channels, as equivariant code is often written."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.flatten(1, 2)).unflatten(1, (x.shape[1], -1))


class SlotBias(nn.Module):
    def __init__(self, order):
        super().__init__()
        self.slot_bias = nn.Parameter(torch.zeros(WIDTH, order, 1, 1))

    def forward(self, x):
        return x + self.slot_bias


class Positional(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.table = nn.Parameter(torch.randn(size, size))

    def forward(self, x):
        return x + self.table


def strided(k, **options):
    return gk.nn.GroupConv2d(WIDTH, WIDTH, k, group="p4", **options)


BROKEN = {
    # name of the module to blame, a word of the reason, the network
    "stride that does not fit": ("between", "stride 2", lambda: Network(between=strided(3, stride=2, padding=1))),
    "same padding, even filter": ("between", "even filter", lambda: Network(between=strided(4, padding="same"))),
    "bias per slot": ("between", "'slot_bias'", lambda: Network(between=SlotBias(4))),
    "bias per slot in a norm": ("between.layer", "per slot", lambda: Network(between=Flattened(nn.BatchNorm2d(16)))),
    "plain convolution of slots": (
        "between.layer",
        "GroupConv2d",
        lambda: Network(between=Flattened(nn.Conv2d(16, 16, 3, padding=1))),
    ),
    "plain lifting": (
        "lift.0",
        "LiftingConv2d",
        lambda: Network(lift=nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.Unflatten(1, (4, 4)))),
    ),
    "max pooling that leaves a row out": (
        "between.layer",
        "leave out",
        lambda: Network(between=Flattened(nn.MaxPool2d(3, 2, 1))),
    ),
    "flatten before the head": (
        "head.0",
        "positions or slots",
        lambda: Network(head=nn.Sequential(nn.Flatten(), nn.Linear(WIDTH * 64, 5))),
    ),
    "view of maps as other maps": ("", "view", lambda: Network(code=lambda x: x.transpose(1, 2).reshape(x.shape))),
    "slice in forward": ("", "slice", lambda: Network(code=lambda x: x[..., 1:, 1:])),
    "shift in forward": ("", "shift", lambda: Network(code=lambda x: F.pad(x, (1, 0, 1, 0)))),
    "slice after an activation in place": (
        "",
        "slice",
        lambda: Network(between=nn.Sequential(strided(1), nn.ReLU(inplace=True)), code=lambda x: x[..., 1:, 1:]),
    ),
    "position table": ("between", "each position", lambda: Network(between=Positional(8))),
    "another group": ("between", None, lambda: Network(between=gk.nn.GroupConv2d(WIDTH, WIDTH, 3, group="d2"))),
}


@pytest.mark.parametrize("name", BROKEN)
def test_names_the_layer_that_breaks_it(name):
    torch.manual_seed(0)
    blamed, reason, make = BROKEN[name]
    network = make()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    report = gk.check_equivariance(network, torch.randn(2, 3, 8, 8), "p4")
    assert not report, report
    assert report.first.module == blamed, report
    assert report.first.error > 1e-4, report
    assert "degrees" in report.first.element
    assert reason is None or reason in report.first.reason, report
    assert str(report).startswith("NOT equivariant under 3 elements of p4")
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items()) and network.training


@pytest.mark.parametrize("group", ["p4", "p4m", "c8", "d8"])
def test_finds_nothing_where_nothing_is_broken(group):
    torch.manual_seed(0)
    report = gk.check_equivariance(Network(group), torch.randn(2, 3, 9, 9), group)
    assert report and report.first is None and report.outputs == ("a vector",), report
    assert report.error < 1e-12
    body = nn.Sequential(*list(Network(group).children())[:4])
    report = gk.check_equivariance(body, torch.randn(2, 3, 9, 7), group)
    assert report and report.outputs == (f"a map on {gk.point_group(group).name}",), report


def test_a_network_over_a_larger_group_and_on_maps():
    assert gk.check_equivariance(Network("p4m"), torch.randn(2, 3, 8, 8), "p4")
    assert gk.check_equivariance(gk.nn.GroupConv2d(2, 3, 3, group="p4m"), torch.randn(2, 2, 8, 8, 8), "p4m")
    assert not gk.check_equivariance(Network("p4"), torch.randn(2, 3, 8, 8), "p4m")


def test_a_stride_that_fits_the_size():
    network = Network(between=strided(3, stride=2, padding=1))
    assert gk.check_equivariance(network, torch.randn(2, 3, 9, 9), "p4")
    report = gk.check_equivariance(network, torch.randn(2, 3, 8, 8), "p4")
    assert "mod 2" in report.first.reason and "last 1 of 8 pixels" in report.first.reason


def test_two_reasons_at_once():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU())
    reason = gk.check_equivariance(network, torch.randn(2, 3, 8, 8)).first.reason
    assert "equivariant to shifts only" in reason and "Besides: windows of 3 with stride 2" in reason


def test_plain_copies_are_checked_as_they_are():
    plain = gk.to_plain(Network("p4"))
    assert gk.check_equivariance(plain, torch.randn(2, 3, 8, 8), "p4", perturb=False)


def test_arguments():
    network, x = Network(), torch.randn(2, 3, 8, 8)
    with pytest.raises(TypeError, match=r"module: expected an nn\.Module, got function"):
        gk.check_equivariance(lambda x: x, x)
    with pytest.raises(ValueError, match=r"x: expected \[B, C, H, W\]"):
        gk.check_equivariance(network, torch.randn(3, 8))
    with pytest.raises(ValueError, match="group: expected one with an element"):
        gk.check_equivariance(network, x, "p1")
    with pytest.raises(ValueError, match="tolerance: expected a positive number"):
        gk.check_equivariance(network, x, tolerance=0)


def test_command(tmp_path, capsys):
    source = tmp_path / "nets.py"
    source.write_text(
        "import torch, gcnn_kernels as gk\n"
        "good = gk.nn.LiftingConv2d(3, 2, 3, group='p4m')\n"
        "def bad():\n    return torch.nn.Sequential(gk.nn.LiftingConv2d(3, 2, 2, stride=2, group='p4m'))\n"
    )

    command = [sys.executable, "-m", "gcnn_kernels.check", f"{source}:bad", "--shape", "1,3,9,9"]
    bad = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert bad.returncode == 1 and "first broken by '0' (LiftingConv2d)" in bad.stdout, bad
    assert main([f"{source}:good"]) == 0
    assert "equivariant under 7 elements of p4m" in capsys.readouterr().out
    assert main([f"{source}:nothing"]) == 2
    assert "expected a name of" in capsys.readouterr().err
