"""Every preset at full architecture: what it learns on this machine's kernels is what it learns on the reference."""

from __future__ import annotations

import itertools

import pytest
from gan_steps import assert_same, discriminator_update, one_iteration, random_images

from gan.networks import ALL_PRESETS
from gan.options import resolve
from gan.training.loop import ALONE_ON_CPU

SMALL = ("rotmnist", "cifar10", "anhir64", "lysto64")
LARGE = ("anhir", "food101", "lysto", "maps")
LOSSES = ("ragan", "rpgan", "nsgan", "wgan", "hinge", "alpha")


def assert_same_as_the_reference(steps, preset, generator, discriminator, **given):
    """Losses, penalties, gradients and the state of spectral and batch norm, in float64."""
    options = resolve({
        "dataset": "maps" if preset == "maps" else "folder", "preset": preset, "generator_group": generator,
        "discriminator_group": discriminator, "batch_size": 2, "d_updates": 1, "device": "cpu", **given,
    })  # fmt: skip
    images = random_images(options)
    ours, reference = (
        steps(options, images, ALONE_ON_CPU, float64=True, backend=backend) for backend in ("auto", "reference")
    )
    assert_same(ours, reference, 1e-6)
    if options.r1 > 0 or options.loss == "wgan":  # alpha's penalty is of slopes above 1, which there are not yet
        assert reference["losses"][1] > 0


@pytest.mark.parametrize(("generator", "discriminator"), [*itertools.product(("p1", "p4"), repeat=2)])
@pytest.mark.parametrize("loss", LOSSES)
def test_digits_with_every_loss_in_every_cell(loss, generator, discriminator):
    assert_same_as_the_reference(one_iteration, "digits", generator, discriminator, loss=loss)


@pytest.mark.parametrize(("loss", "r1", "accumulate"), [("rpgan", 0.1, 1), ("nsgan", 0.0, 2)])
def test_digits_with_a_penalty_on_generated_images(loss, r1, accumulate):
    how = {"loss": loss, "r1": r1, "r2": 0.3, "accumulate": accumulate, "augment": "diffaugment"}
    assert_same_as_the_reference(one_iteration, "digits", "p4", "p4", **how)


@pytest.mark.parametrize("preset", SMALL)
def test_an_iteration(preset):
    group = ALL_PRESETS[preset].group
    assert_same_as_the_reference(one_iteration, preset, group, group)


@pytest.mark.slow
@pytest.mark.parametrize("preset", LARGE)
def test_an_update_of_the_discriminator(preset):
    group = ALL_PRESETS[preset].group
    assert_same_as_the_reference(discriminator_update, preset, group, group)
