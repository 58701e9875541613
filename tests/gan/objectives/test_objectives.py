"""Losses, penalties and augmentations of gan."""

from __future__ import annotations

import contextlib
import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import gcnn_kernels as gk
from gan.common.symmetry import GroupAction
from gan.networks import build_discriminator
from gan.objectives import (
    LOSSES,
    auxiliary_rotations,
    build_loss,
    consistency,
    consistency_warning,
    lipschitz,
    penalties,
    wgan_gp,
    zero_centred,
)


def logits(*shape, scale=1.0):
    random = torch.Generator().manual_seed(0)
    return [scale * torch.randn(shape, generator=random, dtype=torch.double) for _ in range(2)]


def sigmoid(t):
    return 1 / (1 + torch.exp(-t))


STRAIGHTFORWARD = {
    "ragan": (
        lambda r, f: -torch.log(sigmoid(r - f.mean())).mean() - torch.log(1 - sigmoid(f - r.mean())).mean(),
        lambda r, f: -torch.log(sigmoid(f - r.mean())).mean() - torch.log(1 - sigmoid(r - f.mean())).mean(),
    ),
    "rpgan": (
        lambda r, f: sum(-torch.log(sigmoid(r[i] - f[i])) for i in range(len(r))) / len(r),
        lambda r, f: sum(-torch.log(sigmoid(f[i] - r[i])) for i in range(len(r))) / len(r),
    ),
    "nsgan": (
        lambda r, f: -torch.log(sigmoid(r)).mean() - torch.log(1 - sigmoid(f)).mean(),
        lambda r, f: -torch.log(sigmoid(f)).mean(),
    ),
    "wgan": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
    "hinge": (
        lambda r, f: torch.maximum(1 - r, r * 0).mean() + torch.maximum(1 + f, f * 0).mean(),
        lambda r, f: -f.mean(),
    ),
    "pix2pix": (
        lambda r, f: -0.5 * (torch.log(sigmoid(r)).mean() + torch.log(1 - sigmoid(f)).mean()),
        lambda r, f: -torch.log(sigmoid(f)).mean(),
    ),
    "alpha": (
        lambda r, f: (f.clamp(min=0) ** 2 / 2 + 1 / 2).mean() - r.mean(),
        lambda r, f: -(f.clamp(min=0) ** 2 / 2 + 1 / 2).mean(),
    ),
}


@pytest.mark.parametrize("name", STRAIGHTFORWARD)
def test_losses_are_their_formulas(name):
    loss, (real, fake) = build_loss(name), logits(7)
    for mine, formula in zip(loss[:2], STRAIGHTFORWARD[name], strict=True):
        torch.testing.assert_close(mine(real, fake), formula(real, fake))


@pytest.mark.parametrize("name", STRAIGHTFORWARD)
def test_losses_are_finite_at_large_logits(name):
    for player in build_loss(name)[:2]:
        real, fake = (t.float().requires_grad_() for t in logits(64, scale=1e4))
        value = player(real, fake)
        value.backward()
        assert value.isfinite()
        assert fake.grad.isfinite().all()


@pytest.mark.parametrize("name", [*LOSSES, "alpha"])
def test_generator_needs_real_logits_only_if_relativistic(name):
    loss, (_, fake) = build_loss(name), logits(4)
    if loss.relativistic:
        assert name in ("ragan", "rpgan")
    else:
        assert loss.generator(None, fake).isfinite()


def test_unknown_losses():
    with pytest.raises(ValueError, match=r"loss: expected one of ragan, .*, alpha, got 'lsgan'"):
        build_loss("lsgan")
    with pytest.raises(ValueError, match=r"alpha: expected more than 1, got 1\.0"):
        build_loss("alpha", 1.0)


@pytest.mark.parametrize("alpha", [1.5, 2.0, 5.0])
def test_alpha_conjugate_is_the_legendre_transform(alpha):
    """f*(y) = sup_x (x y - f(x)) over x >= 0, for f(x) = (x^alpha - 1) / (alpha (alpha - 1))."""
    x = torch.linspace(0, 200, 2_000_001, dtype=torch.double)
    f = (x**alpha - 1) / (alpha * (alpha - 1))
    for y in (-2.0, 0.0, 0.3, 1.7):
        found = -build_loss("alpha", alpha).generator(None, torch.tensor([y], dtype=torch.double))
        torch.testing.assert_close(found, (x * y - f).max(), rtol=1e-6, atol=1e-6)


class Quadratic(torch.nn.Module):
    """D(x) = a/2 ||x||^2, whose gradient is a x."""

    def __init__(self, a):
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(a, dtype=torch.double))

    def forward(self, images, labels):
        return self.a / 2 * images.square().sum((1, 2, 3))


def test_penalties_of_a_quadratic():
    random = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(5, 2, 3, 3, generator=random, dtype=torch.double) for _ in range(2))
    shares, labels = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0]), torch.zeros(5, dtype=torch.long)
    discriminator = Quadratic(0.3)
    images = real.clone().requires_grad_()
    norms = lambda x: x.flatten(1).norm(dim=1)  # noqa: E731
    penalty = zero_centred(discriminator(images, labels), images, gamma=0.1)
    torch.testing.assert_close(penalty.double(), 0.05 * (0.3 * norms(real)).square().mean(), rtol=1e-6, atol=0)
    penalty.backward()
    torch.testing.assert_close(discriminator.a.grad, 0.05 * 2 * 0.3 * norms(real).square().mean(), rtol=1e-6, atol=0)

    between = real + shares.double().view(-1, 1, 1, 1) * (fake - real)
    steep = 0.3 * norms(between)
    assert (steep > 1).any() and (steep < 1).any()
    penalty = wgan_gp(discriminator, real, fake, labels, 10.0, shares)
    torch.testing.assert_close(penalty.double(), 10 * (steep - 1).square().mean(), rtol=1e-6, atol=0)
    penalty = lipschitz(discriminator, real, fake, labels, 10.0, shares)
    torch.testing.assert_close(penalty.double(), 10 * (steep**2 - 1).clamp(min=0).mean(), rtol=1e-6, atol=0)


def test_gradient_penalty_where_the_gradient_vanishes():
    discriminator = Quadratic(0.0)
    images, labels = torch.randn(2, 1, 4, 4, dtype=torch.double), torch.zeros(2, dtype=torch.long)
    wgan_gp(discriminator, images, images, labels, 10.0, torch.rand(2)).backward()
    assert discriminator.a.grad.isfinite()


def discriminator_and_batch(preset="rotmnist", group="p4", size=28, channels=1, **options):
    torch.manual_seed(0)
    discriminator = build_discriminator(preset, group, width=0.1, **options).double()
    random = torch.Generator().manual_seed(1)
    images = torch.rand(4, channels, size, size, generator=random, dtype=torch.double) * 2 - 1
    return discriminator, images, torch.tensor([0, 1, 2, 0])


def penalty_gradients(discriminator, images, labels):
    images = images.clone().requires_grad_()
    penalty = zero_centred(discriminator(images, labels), images, gamma=1.0)
    return penalty, torch.autograd.grad(penalty, list(discriminator.parameters()), allow_unused=True)


def assert_same_gradients(found, expected):
    for mine, other in zip(found, expected, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None:
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-9)


class TorchBatchNorm(torch.nn.Module):
    """GroupBatchNorm2d with ReLU in torch's own operators, in training."""

    def __init__(self, norm):
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x):
        return F.batch_norm(x.flatten(2), None, None, self.weight, self.bias, training=True).view_as(x).relu()


def reference_model(discriminator):
    twin = copy.deepcopy(discriminator)
    for name, module in list(twin.named_modules()):
        if hasattr(module, "backend"):
            module.backend = "reference"
        if isinstance(module, gk.nn.GroupBatchNorm2d):
            twin.set_submodule(name, TorchBatchNorm(module))
    return twin


@pytest.mark.parametrize(
    ("preset", "group", "size", "channels"),
    [("rotmnist", "p4", 28, 1), ("anhir64", "p4m", 32, 3), ("lysto", "p4m", 64, 3), ("cifar10", "p4", 32, 3)],
)
def test_r1_equals_the_reference_model(preset, group, size, channels):
    discriminator, images, labels = discriminator_and_batch(preset, group, size, channels)
    twin = reference_model(discriminator)
    penalty, gradients = penalty_gradients(discriminator, images, labels)
    expected, expected_gradients = penalty_gradients(twin, images, labels)
    torch.testing.assert_close(penalty, expected)
    assert penalty > 0
    assert sum(g is not None for g in gradients) > len(gradients) / 2
    assert_same_gradients(gradients, expected_gradients)


class CountWeightGradients(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.gcnn_kernels.conv_weight_grad.default
        return function(*args, **(kwargs or {}))


def test_r1_skips_weight_gradients_in_the_inner_derivative(monkeypatch):
    discriminator, images, labels = discriminator_and_batch()
    state = copy.deepcopy(discriminator.state_dict())
    found = []
    for context in (gk.no_weight_gradients, contextlib.nullcontext):
        monkeypatch.setattr(penalties.gk, "no_weight_gradients", context)
        discriminator.load_state_dict(state)
        with CountWeightGradients() as counter:
            found.append((*penalty_gradients(discriminator, images, labels), counter.count))
    (penalty, gradients, calls), (expected, expected_gradients, more_calls) = found
    assert torch.equal(penalty, expected)
    assert_same_gradients(gradients, expected_gradients)
    assert calls == more_calls - 3  # the three convolutions


def test_consistency():
    real, fake = logits(6)
    found = consistency(real, real + 0.5, fake, fake - 2, 10.0, 0.1)
    assert math.isclose(found, 10 * 0.25 + 0.1 * 4, rel_tol=1e-12)


def test_consistency_over_the_discriminators_own_group_does_nothing():
    discriminator, images, labels = discriminator_and_batch(group="p4")
    discriminator.eval()
    moved = GroupAction("p4", 28)(images, torch.tensor([1, 2, 3, 0]))
    a, b = discriminator(images, labels), discriminator(moved, labels)
    assert consistency(a, b, a, b, 10.0, 10.0) < 1e-12
    assert consistency_warning(discriminator, "p4").startswith("bCR over p4 has no effect: the discriminator")
    assert consistency_warning(discriminator, "p4m") is None
    assert consistency_warning(build_discriminator("cifar10", "p4", width=0.01), "p4") is None
    assert consistency_warning(build_discriminator("rotmnist", "p1", width=0.01), "p4") is None


def test_auxiliary_rotations():
    discriminator, images, _ = discriminator_and_batch("cifar10", "p4", 32, 3, auxiliary_rotations=True)
    discriminator.eval()
    images = torch.cat([images, images])
    found = auxiliary_rotations(discriminator, images, GroupAction("p4", 32))
    expected = [
        -torch.log_softmax(discriminator.rotation_logits(image.rot90(r, (1, 2)).unsqueeze(0)).float(), 1)[0, r]
        for image in images[:2]
        for r in range(4)
    ]
    torch.testing.assert_close(found, torch.stack(expected).mean(), rtol=1e-5, atol=0)
    found.backward()
    assert discriminator.rotation_head.bias.grad is not None


@pytest.mark.parametrize(("preset", "group"), [("rotmnist", "p4"), ("anhir", "p4m"), ("rotmnist", "c8")])
def test_auxiliary_rotations_are_refused_where_they_cannot_be_seen(preset, group):
    with pytest.raises(ValueError, match="auxiliary_rotations: expected a discriminator that can see them"):
        build_discriminator(preset, group, width=0.01, auxiliary_rotations=True)


def test_auxiliary_rotations_need_their_head():
    discriminator, images, _ = discriminator_and_batch("rotmnist", "p1")
    with pytest.raises(RuntimeError, match="built without auxiliary_rotations"):
        auxiliary_rotations(discriminator, images, GroupAction("p4", 28))
