"""Every preset at full architecture: an iteration on this machine's kernels is that of the reference backend."""

from __future__ import annotations

import itertools

import pytest
from gan_steps import assert_same, one_iteration, random_images

from gan.networks import ALL_PRESETS
from gan.options import resolve
from gan.training.loop import ALONE_ON_CPU

SMALL = ("rotmnist", "cifar10", "anhir64", "lysto64")
LARGE = ("anhir", "food101", "lysto", "maps")
LOSSES = ("ragan", "nsgan", "wgan", "hinge", "alpha")


def assert_iteration_is_the_references(preset, generator, discriminator, **given):
    """Losses, penalties, gradients of both players and the state of spectral and batch norm, in float64."""
    options = resolve({
        "dataset": "maps" if preset == "maps" else "folder", "preset": preset, "generator_group": generator,
        "discriminator_group": discriminator, "batch_size": 2, "d_updates": 1, "device": "cpu", **given,
    })  # fmt: skip
    images = random_images(options)
    ours, reference = (
        one_iteration(options, images, ALONE_ON_CPU, float64=True, backend=backend) for backend in ("auto", "reference")
    )
    assert_same(ours, reference, 1e-6)
    if options.r1 > 0 or options.loss == "wgan":  # alpha's penalty is of slopes above 1, which there are not yet
        assert reference["losses"][1] > 0


@pytest.mark.parametrize(("generator", "discriminator"), [*itertools.product(("p1", "p4"), repeat=2)])
@pytest.mark.parametrize("loss", LOSSES)
def test_digits_with_every_loss_in_every_cell(loss, generator, discriminator):
    assert_iteration_is_the_references("digits", generator, discriminator, loss=loss)


@pytest.mark.parametrize("preset", [*SMALL, *(pytest.param(preset, marks=pytest.mark.slow) for preset in LARGE)])
def test_both_players_equivariant(preset):
    group = ALL_PRESETS[preset].group
    assert_iteration_is_the_references(preset, group, group)
