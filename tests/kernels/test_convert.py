"""convert: torchvision's networks and a U-Net become exactly invariant or equivariant; what cannot is named."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import gcnn_kernels as gk
from gcnn_kernels._actions import move_planes

models = pytest.importorskip("torchvision.models")  # gan brings it; the kernels need torch alone


def double_conv(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
        nn.Conv2d(cout, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
    )  # fmt: skip


class UNet(nn.Module):
    """Two levels, as most are written; ``up`` enlarges."""

    def __init__(self, classes=2, width=16, up=None):
        super().__init__()
        self.down1, self.down2 = double_conv(3, width), double_conv(width, 2 * width)
        self.pool = nn.MaxPool2d(2)
        self.up = up or nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.last = double_conv(3 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        skip = self.down1(x)
        y = self.up(self.down2(self.pool(skip)))
        return self.head(self.last(torch.cat([skip, y], dim=1)))


class Functional(nn.Module):
    """Functions and methods instead of modules, a depth-wise mean and a second head."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 5, 2, 2), nn.Conv2d(8, 8, 3, padding="same", dilation=2)
        self.gate, self.norm = nn.Conv2d(8, 8, 1), nn.GroupNorm(1, 8)
        self.hidden, self.fc, self.dense = nn.Linear(8, 8), nn.Linear(8, 3), nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 3, 2, 1)
        x = x + self.norm(self.conv2(x)).relu()
        x = x * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(x, 1)))
        dense = F.interpolate(self.dense(x), scale_factor=2, mode="bilinear")
        x = F.dropout(F.relu(self.hidden(x.mean([2, 3]))), 0.5, self.training)
        return self.fc(x), dense


def settled(network, size):
    """In double precision, evaluation mode, with running moments that are not the first ones."""
    torch.manual_seed(1)
    network = network.double().train()
    with torch.no_grad():
        for _ in range(2):
            network(torch.randn(2, 3, size, size, dtype=torch.float64))
    return network.eval()


def check(network, group, size, tolerance=1e-10):
    """Invariant, or turning with the image, for every element."""
    point = gk.point_group(group)
    network = settled(network, size)
    x = torch.randn(1, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        outputs = network(x)
        single = isinstance(outputs, torch.Tensor)
        for element in point.grid_elements[1:]:
            moved = network(move_planes(x, int(element), point))
            for y, z in zip((outputs,) if single else outputs, (moved,) if single else moved, strict=True):
                expected = move_planes(y, int(element), point) if y.dim() == 4 else y
                scale = expected.abs().max()
                assert scale > 0 and ((z - expected).abs().max() / scale).item() < tolerance
                assert ((x - move_planes(x, int(element), point)).abs().max()).item() > 1
    return outputs


SLOW = pytest.mark.slow
CLASSIFIERS = {
    "resnet18": (lambda: models.resnet18(num_classes=7), 48),
    "resnet50": (lambda: models.resnet50(num_classes=7), 33),
    "vgg11_bn": (lambda: models.vgg11_bn(num_classes=7), 32),
    "mobilenet_v3_small": (lambda: models.mobilenet_v3_small(num_classes=7), 32),
    "resnext50_32x4d": (lambda: models.resnext50_32x4d(num_classes=7), 33),
}


@pytest.mark.parametrize("name", ["resnet18", *(pytest.param(n, marks=SLOW) for n in list(CLASSIFIERS)[1:])])
def test_classifiers_of_torchvision_become_invariant(name):
    make, size = CLASSIFIERS[name]
    torch.manual_seed(0)
    network = make()
    converted = gk.convert(network, "p4")
    assert check(converted, "p4", size).shape == (1, 7)
    plain = sum(p.numel() for p in network.parameters())
    assert 0.5 < sum(p.numel() for p in converted.parameters()) / plain < 1.5


def test_resnet18_is_invariant_under_p4m_in_single_precision():
    torch.manual_seed(0)
    network = settled(gk.convert(models.resnet18(num_classes=5), "p4m"), 32).float()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        y = network(x)
        for z in (network(x.rot90(1, (2, 3))), network(x.flip(2)), network(x.transpose(2, 3))):
            assert ((y - z).abs().max() / y.abs().max()).item() < 1e-5


@pytest.mark.parametrize("size", [32, 33, 46])
def test_every_part_of_a_resnet_is_equivariant_whatever_the_size(size):
    torch.manual_seed(0)
    network = models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=5)
    assert not gk.check_equivariance(network, torch.randn(1, 3, size, size), "p4")
    report = gk.check_equivariance(gk.convert(network, "p4"), torch.randn(1, 3, size, size), "p4")
    assert report and report.outputs == ("a vector",), report


@pytest.mark.parametrize("group", ["p4", "p4m", "c8"])
@pytest.mark.parametrize("width", ["sqrt", "keep"])
def test_unet_turns_with_the_image(group, width):
    torch.manual_seed(0)
    converted = gk.convert(UNet(), group, width=width, pool="average")
    assert check(converted, group, 12).shape == (1, 2, 12, 12)
    lift = converted.get_submodule("down1.0")
    assert lift.out_channels == (16 if width == "keep" else round(16 / gk.point_group(group).order ** 0.5))
    assert converted.get_submodule("last.0").in_channels == 3 * lift.out_channels or width == "sqrt"


@pytest.mark.parametrize("options", [(2, 2), (4, 2, 1), (4, 2, 1, 0, 4)])
def test_transposed_convolutions(options):
    torch.manual_seed(0)
    network = UNet(up=nn.ConvTranspose2d(32, 32, *options))
    converted = gk.convert(network, "p4m")
    assert check(converted, "p4m", 12).shape == (1, 2, 12, 12)
    up = converted.get_submodule("up")
    assert isinstance(up, gk.nn.GroupConvTranspose2d) and up.groups == network.up.groups
    old, new = network.up.weight, up.weight
    ratio = (new.std() * new[:, 0].numel() ** 0.5) / (old.std() * old[:, 0].numel() ** 0.5)
    assert ratio.item() == pytest.approx(1, rel=0.05)


def test_a_transposed_convolution_that_lifts():
    torch.manual_seed(0)
    network = nn.Sequential(nn.ConvTranspose2d(3, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1))
    assert check(gk.convert(network, "p4m"), "p4m", 5).shape == (1, 2, 10, 10)


def test_grouped_and_depthwise_convolutions():
    """Groups are kept, widths fit them; what is depthwise stays so, with its multiplier."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, groups=3), nn.ReLU6(), nn.Conv2d(6, 40, 1), nn.Conv2d(40, 40, 3, groups=40),
        nn.Conv2d(40, 80, 3, groups=40), nn.Hardswish(), nn.Conv2d(80, 24, 3, groups=4), nn.Conv2d(24, 4, 1, groups=4),
    )  # fmt: skip
    converted = gk.convert(network, "p4m")
    shapes = [(m.in_channels, m.out_channels, m.groups) for m in converted.children() if hasattr(m, "groups")]
    assert shapes == [(3, 3, 3), (3, 14, 1), (14, 14, 14), (14, 28, 14), (28, 8, 4), (8, 4, 4)]
    check(converted, "p4m", 12)
    kept = gk.convert(network, "p4m", width="keep")
    assert [m.groups for m in kept.children() if hasattr(m, "groups")] == [3, 1, 40, 40, 4, 4]
    layers = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3, groups=8), nn.Conv2d(16, 16, 3, groups=4), nn.Conv2d(16, 2, 1)
    with pytest.raises(ValueError, match=r"'2' \(Conv2d\): groups=4: expected a divisor of the 6 and 4 channels left"):
        gk.convert(nn.Sequential(*layers), "p4m")


def test_functions_methods_and_two_heads():
    torch.manual_seed(0)
    converted = gk.convert(Functional(), "p4m", width="keep")
    for size in (16, 17, 22):
        scores, dense = check(converted, "p4m", size)
        assert scores.shape == (1, 3) and dense.shape[1] == 2 and dense.dim() == 4


def test_linear_over_a_plane_becomes_a_convolution():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
    converted = gk.convert(network, "p4m")
    assert check(converted, "p4m", 8).shape == (1, 5)
    with pytest.raises(ValueError, match="x: expected planes of 6 x 6 pixels"):
        converted(torch.randn(1, 3, 9, 9, dtype=torch.float64))


def test_names_modes_variances_and_the_original():
    torch.manual_seed(0)
    network = models.resnet18(num_classes=5).eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    converted = gk.convert(network, "p4")
    assert not converted.training and all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert {k for k in converted.state_dict() if "fit" not in k} == set(before)
    for name in ("layer2.0.conv1", "layer4.1.conv2"):
        old, new = (n.get_submodule(name).weight for n in (network, converted))
        assert (new.std() * new[0].numel() ** 0.5).item() == pytest.approx(
            (old.std() * old[0].numel() ** 0.5).item(), rel=0.02
        )
    assert converted.get_submodule("bn1").activation == "relu" and converted.fc.in_features == 256


def test_plain_copy_and_training():
    torch.manual_seed(0)
    converted = gk.convert(UNet(width=8), "p4")
    x = torch.randn(2, 3, 8, 8)
    F.cross_entropy(converted(x), torch.zeros(2, 8, 8, dtype=torch.long)).backward()
    assert all(p.grad is not None for p in converted.parameters())
    plain = gk.to_plain(converted)
    torch.testing.assert_close(plain(x), converted.eval()(x), rtol=1e-4, atol=1e-5)


class Denoiser(nn.Module):
    """What it finds is taken off the image; and a second output with softmax, enlarged to the image's size."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
        self.noise, self.classes = nn.Conv2d(8, 3, 3, padding=1), nn.Conv2d(8, 4, 3, stride=2)

    def forward(self, x):
        y = self.body(x)
        classes = F.interpolate(self.classes(y), size=x.shape[-2:], mode="bilinear")
        return x - self.noise(y), F.log_softmax(classes, dim=1)


def test_image_minus_what_is_found_and_softmax():
    torch.manual_seed(0)
    clean, classes = check(gk.convert(Denoiser(), "p4m"), "p4m", 10)
    assert clean.shape == (1, 3, 10, 10) and classes.shape == (1, 4, 10, 10)
    torch.testing.assert_close(classes.exp().sum(1), torch.ones(1, 10, 10, dtype=torch.float64))
    network = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten(), nn.Linear(4, 3), nn.LogSoftmax(1))
    assert check(gk.convert(network, "p4"), "p4", 5).exp().sum().item() == pytest.approx(1)


def test_a_backbone_without_a_head():
    network = nn.Sequential(*list(models.resnet18().children())[:6])
    assert check(gk.convert(network, "p4"), "p4", 17).shape[1] == 64


class OnlyInTraining(nn.Sequential):
    def forward(self, x):
        return super().forward(x) * 2 if self.training else super().forward(x)


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x) if x.sum() > 0 else x


class Sliced(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.wide = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, (3, 5))
        self.lstm = nn.LSTM(4, 4)

    def forward(self, x):
        return self.lstm(self.conv(x)[:, :, 1:]) + self.wide(self.conv(x))


def test_what_cannot_be_converted_is_named():
    with pytest.raises(ValueError, match=r"module: expected a network that torch\.fx can trace"):
        gk.convert(Branches(), "p4")
    with pytest.raises(ValueError, match="the same in training and evaluation"):
        gk.convert(OnlyInTraining(nn.Conv2d(3, 4, 3)), "p4")
    with pytest.raises(ValueError) as error:
        gk.convert(Sliced(), "p4")
    for words in ("'getitem' (operation): slices of values", "'wide' (Conv2d): kernel_size=(3, 5): expected"):
        assert words in str(error.value)
    for layers, words in (
        ([nn.Conv2d(3, 4, (3, 5))], "'0' (Conv2d): kernel_size=(3, 5): expected the same in both directions"),
        ([nn.Conv2d(3, 4, 3), nn.MaxPool2d(2, ceil_mode=True)], "'1' (MaxPool2d): ceil_mode=True: expected False"),
        ([nn.Conv2d(3, 4, 4, padding="same")], "'0' (Conv2d): padding='same' with an even filter"),
        ([nn.Conv2d(3, 4, 3), nn.Upsample(scale_factor=1.5)], "'1' (Upsample)"),
        ([nn.Conv2d(3, 4, 3), nn.LocalResponseNorm(2)], "'1' (LocalResponseNorm): there is no counterpart"),
        ([nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(20, 3)], "'2' (Linear): its 20 features are not 4 square planes"),
        ([nn.ConvTranspose2d(3, 4, 3, 2, 1, 1)], "'0' (ConvTranspose2d): output_padding=(1, 1) adds pixels on the far"),
        ([spectral_norm(nn.Conv2d(3, 4, 3))], "'0' (ParametrizedConv2d): its parametrization or hooks"),
        ([nn.Conv2d(3, 4, 3), nn.Linear(4, 3)], "'1' (Linear): a Linear on something other than a flattened map"),
        ([nn.ReLU()], "there is no convolution in it"),
    ):
        with pytest.raises(ValueError) as error:
            gk.convert(nn.Sequential(*layers), "p4")
        assert words in str(error.value)
    with pytest.raises(ValueError, match="width: expected one of"):
        gk.convert(UNet(), "p4", width="half")
    with pytest.raises(TypeError, match="module: expected an nn.Module"):  # noqa: RUF043
        gk.convert(torch.relu, "p4")
