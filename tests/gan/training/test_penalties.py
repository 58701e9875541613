"""The gradient penalties of a whole update of the discriminator, against their formulas and against each other."""

from __future__ import annotations

import copy

import pytest
import torch
from gan_steps import assert_same, discriminator_update, prepared, random_images

from gan.networks.spectral import SpectralNorm
from gan.options import resolve
from gan.training.loop import ALONE_ON_CPU
from gan.training.synthesis import SynthesisUpdates

DIGITS = {"dataset": "folder", "preset": "digits", "width": 0.2, "batch_size": 4, "loss": "rpgan", "device": "cpu"}


def slopes(discriminator, images, labels):
    """||d D / d image||^2 of every image, by central differences along every pixel."""
    basis = torch.eye(images[0].numel(), dtype=images.dtype).view(-1, *images.shape[1:])
    step = 1e-5
    found = []
    for image, label in zip(images, labels, strict=True):
        repeated = label.expand(len(basis))
        ahead, behind = (discriminator(image + sign * step * basis, repeated) for sign in (1, -1))
        found.append(((ahead - behind) / (2 * step)).square().sum())
    return torch.stack(found)


@pytest.mark.parametrize(("r1", "r2"), [(0.3, 0.0), (0.0, 0.7), (0.3, 0.7)])
def test_the_penalty_is_that_of_finite_differences_at_real_and_at_generated_images(r1, r2):
    options = resolve({**DIGITS, "r1": r1, "r2": r2, "r1_every": 2})
    training, _ = prepared(options, random_images(options), ALONE_ON_CPU, float64=True)
    twin = copy.deepcopy(training.state)
    batch = training.task.batch(0)
    found = training.updates.discriminator(batch, 4)["penalty"]

    discriminator = twin.discriminator.train().requires_grad_(False)
    expected = torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        fake = twin.generator.train()(batch.noise.z, batch.labels)
        for gamma, images in ((r1, training.task.updates._real(batch).double()), (r2, fake)):
            for module in discriminator.modules():
                if isinstance(module, SpectralNorm):
                    module.kept = True
            expected += 2 * gamma / 2 * slopes(discriminator, images, batch.labels).mean()
            for module in discriminator.modules():
                if isinstance(module, SpectralNorm):
                    module.kept = False
            discriminator(images, batch.labels)  # the logits' own forward pass moves the singular vectors
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
    assert training.updates.discriminator(training.task.batch(1), 5)["penalty"] == 0


def test_a_penalty_with_a_forward_pass_of_its_own_is_the_same(monkeypatch):
    """As compiled and fp16 discriminators take it."""
    options = resolve({**DIGITS, "r2": 0.5})
    images = random_images(options)
    shared = discriminator_update(options, images, ALONE_ON_CPU, float64=True)
    monkeypatch.setattr(SynthesisUpdates, "_penalty_shares_forward", False)
    assert_same(discriminator_update(options, images, ALONE_ON_CPU, float64=True), shared, 1e-9)
