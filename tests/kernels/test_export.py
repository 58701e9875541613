"""Plain torch layers out of group layers: equal outputs, no trace of this package, torch.export and ONNX."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import gcnn_kernels as gk
from gan.networks import build_generator


class Network(nn.Module):
    """Every layer, with options, as a user would combine them."""

    def __init__(self, group):
        super().__init__()
        self.stem_norm = gk.nn.GroupBatchNorm2d(3, affine=False)
        self.lift = spectral_norm(gk.nn.LiftingConv2d(3, 6, 5, padding=2, padding_mode="reflect", group=group))
        self.norm = gk.nn.GroupBatchNorm2d(6, activation="leaky_relu")
        self.conv = gk.nn.GroupConv2d(6, 4, 3, stride=2, padding="valid", dilation=2, bias=False, group=group)
        self.conditional = gk.nn.ConditionalGroupBatchNorm2d(4, 5, activation="relu")
        self.by_batch = gk.nn.ConditionalGroupBatchNorm2d(4, 5, track_running_stats=False)
        self.last = gk.nn.GroupConv2d(4, 4, 1, group=group)
        self.max, self.mean = gk.nn.GroupMaxPool(), gk.nn.GroupAvgPool()

    def forward(self, x, condition):
        y = self.conv(self.norm(self.lift(self.stem_norm(x))))
        y = self.last(self.by_batch(self.conditional(y, condition), condition))
        return self.max(y) + self.mean(y)


def trained(group):
    torch.manual_seed(0)
    net = Network(group)
    x, c = torch.randn(4, 3, 15, 15), torch.randn(4, 5)
    for _ in range(3):
        net(x, c)
    return net.eval(), x, c


@pytest.mark.parametrize("group", ["p1", "p4", "p4m", "c8"])
def test_equal_outputs_and_untouched_original(group):
    net, x, c = trained(group)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    plain = gk.to_plain(net)
    torch.testing.assert_close(plain(x, c), net(x, c), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert not any(type(m).__module__.startswith("gcnn_kernels") for m in plain.modules())


def test_a_saved_program_runs_where_this_package_is_not(tmp_path):
    net, x, c = trained("p4m")
    torch.export.save(torch.export.export(gk.to_plain(net), (x, c)), tmp_path / "net.pt2")
    torch.save({"x": x, "c": c, "y": net(x, c).detach()}, tmp_path / "data.pt")
    script = (
        "import sys, torch\n"
        "program = torch.export.load('net.pt2').module()\n"
        "d = torch.load('data.pt')\n"
        "torch.testing.assert_close(program(d['x'], d['c']), d['y'], rtol=1e-5, atol=1e-5)\n"
        "assert 'gcnn_kernels' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)


def trained_generator():
    torch.manual_seed(0)
    net = build_generator("digits", "p4", width=0.5)
    z, labels = torch.randn(4, net.latent_dim), torch.arange(4)
    net(z, labels)
    return net.eval(), z, labels


@pytest.mark.parametrize("build", [lambda: trained("p4"), trained_generator], ids=["network", "generator"])
def test_onnx(tmp_path, build):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    net, *inputs = build()
    plain = gk.to_plain(net)
    assert not any(type(m).__module__.startswith("gcnn_kernels") for m in plain.modules())
    path = tmp_path / "net.onnx"
    torch.onnx.export(plain, tuple(inputs), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    (y,) = session.run(None, dict(zip(names, (t.numpy() for t in inputs), strict=True)))
    torch.testing.assert_close(torch.from_numpy(y), net(*inputs).detach(), rtol=1e-5, atol=1e-5)


def test_a_layer_used_twice_is_one_layer():
    torch.manual_seed(0)
    conv, norm = gk.nn.GroupConv2d(2, 2, 3, padding=1), gk.nn.GroupBatchNorm2d(2)
    net = nn.Sequential(gk.nn.LiftingConv2d(1, 2, 3), *[conv, norm] * 3)
    net.other_name = conv
    x = torch.randn(2, 1, 8, 8)
    plain = gk.to_plain(net)
    torch.testing.assert_close(plain(x), net.eval()(x), rtol=1e-5, atol=1e-5)
    assert plain[1] is plain[3] is plain[5] is plain.other_name is plain[7]
    assert not any(type(m).__module__.startswith("gcnn_kernels") for m in plain.modules())


class Doubled(gk.nn.GroupConv2d):
    def forward(self, x):
        return 2 * super().forward(x)


def _with(register, hook):
    layer = gk.nn.GroupConv2d(2, 2, 3)
    getattr(layer, register)(hook)
    return layer


def _own_forward():
    layer = gk.nn.GroupMaxPool()
    layer.forward = lambda x: x.amin(2)
    return layer


def _conditional():
    layer = gk.nn.ConditionalGroupBatchNorm2d(2, 3)
    nn.utils.spectral_norm(layer.scale)
    return layer


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Doubled(2, 2, 3), "its forward is not that of GroupConv2d"),
        (_own_forward, "its forward is not that of GroupMaxPool"),
        (lambda: _with("register_forward_hook", lambda m, x, y: 2 * y), "its hooks would be lost"),
        (lambda: _with("register_forward_pre_hook", lambda m, x: (2 * x[0],)), "its hooks would be lost"),
        (lambda: nn.utils.weight_norm(gk.nn.GroupConv2d(2, 2, 3)), "its hooks would be lost"),
        (lambda: nn.utils.spectral_norm(gk.nn.LiftingConv2d(2, 2, 3)), "its hooks would be lost"),
        (_conditional, "its hooks on scale would be lost"),
    ],
)
def test_what_would_come_out_otherwise_is_refused_by_name(build, message):
    net = nn.ModuleDict({"first": gk.nn.GroupConv2d(2, 2, 3), "second": nn.ModuleList([build()])})
    with pytest.raises(TypeError, match=rf"cannot convert second\.0 \(.*\): {message}"):
        gk.to_plain(net)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_subclass_with_a_constructor_of_its_own_is_converted():
    class Three(gk.nn.GroupConv2d):
        def __init__(self):
            super().__init__(2, 2, 3)

    net = nn.Sequential(Three(), nn.utils.weight_norm(nn.Conv3d(2, 2, 1)))  # a hook on a module of torch stays
    x = torch.randn(1, 2, 4, 5, 5)
    net(x).sum().backward()
    torch.testing.assert_close(gk.to_plain(net)(x), net.eval()(x))
