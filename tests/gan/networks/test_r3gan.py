"""R3GAN's networks: its blocks, their initialisation, and their symmetry over any group."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from gan.common.symmetry import GroupAction
from gan.networks import build_discriminator, build_generator, parameter_counts
from gan.networks.blocks import Bottleneck
from gan.networks.spectral import SpectralNorm


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def randomise(network):
    """Blocks begin as the identity, which would hide what is in them."""
    for block in network.modules():
        if isinstance(block, Bottleneck):
            torch.nn.init.normal_(block.conv3.weight, std=0.3)
            torch.nn.init.normal_(block.conv1.bias)
    return network


def test_the_block_is_the_papers():
    """In torch's functions, planar: widths of CIFAR-10's stages, 768 channels, 96 groups of 16 in 1,536."""
    block = Bottleneck(768, "p1")
    weights = [layer.weight[:, :, 0] for layer in (block.conv1, block.conv2, block.conv3)]
    assert [tuple(weight.shape) for weight in weights] == [(1536, 768, 1, 1), (1536, 16, 3, 3), (768, 1536, 1, 1)]
    x = uniform(2, 768, 1, 5, 5)
    planar = x[:, :, 0]
    y = F.leaky_relu(F.conv2d(planar, weights[0], block.conv1.bias), 0.2)
    y = F.leaky_relu(F.conv2d(y, weights[1], block.conv2.bias, padding=1, groups=96), 0.2)
    expected = planar + F.conv2d(y, weights[2])
    torch.testing.assert_close(block(x)[:, :, 0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("group", "groups", "inside"), [("p4", 4, 32), ("p4m", 6, 30), ("c8", 6, 30)])
def test_channel_groups_over_a_point_group(group, groups, inside):
    block = Bottleneck(16, group)
    assert (block.conv2.groups, block.conv2.in_channels, block.conv2.out_channels) == (groups, inside, inside)
    assert Bottleneck(1, group).conv2.in_channels == 2


@pytest.mark.parametrize(("build", "group"), [(build_generator, "p1"), (build_discriminator, "p4")])
def test_blocks_begin_as_the_identity_and_keep_the_variance(build, group):
    torch.manual_seed(0)
    network = build("r3gan32", group, width=0.5)
    blocks = [module for module in network.modules() if isinstance(module, Bottleneck)]
    assert len(blocks) == 8
    gain = math.sqrt(2 / 1.04) * 8**-0.25
    for block in blocks:
        assert not block.conv3.weight.any()
        for layer in (block.conv1, block.conv2):
            assert layer.weight.std().item() == pytest.approx(gain / math.sqrt(layer.weight[0].numel()), rel=0.1)
            assert not layer.bias.any()
    assert not any(isinstance(module, SpectralNorm) for module in network.modules())


def test_parameter_counts_by_hand():
    block = 2 * 256 * 512 + 512 * 16 * 9 + 2 * 512
    generator = 10 * 64 + 128 * 256 + 16 * 256 + 9 * 256 * 256 + 8 * block + 3 * 256
    discriminator = 9 * 3 * 256 + 8 * block + 16 * 256 + 11 * 256 + 1
    assert parameter_counts("r3gan32", "p1", "p1") == (generator, discriminator)


@pytest.mark.parametrize("group", ["p4", "p4m", "c8"])
@pytest.mark.parametrize("size", [32, 30])
def test_the_discriminator_is_invariant_whatever_the_blocks_have_learned(group, size):
    torch.manual_seed(0)
    discriminator = randomise(build_discriminator("r3gan32", group, width=0.05)).double()
    images, labels = uniform(2, 3, size, size).double(), torch.tensor([0, 1])
    logits = discriminator(images, labels)
    action = GroupAction(discriminator.invariance, size)
    for element in range(1, action.point_group.order):
        moved = discriminator(action(images, torch.full((2,), element)), labels)
        torch.testing.assert_close(moved, logits, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(discriminator(images.roll(3, 2), labels), logits, rtol=1e-3)


def test_the_generator_moves_with_its_first_map_whatever_the_blocks_have_learned():
    torch.manual_seed(0)
    generator = randomise(build_generator("r3gan64", "p4m", width=0.05, symmetry="full")).double()
    z, labels = torch.randn(1, 64).double(), torch.tensor([3])
    images = generator(z, labels, elements=torch.tensor([0]))
    action = GroupAction("p4m", 64)
    for element in range(1, 8):
        moved = generator(z, labels, elements=torch.tensor([element]))
        torch.testing.assert_close(moved, action(images, torch.tensor([element])), rtol=1e-9, atol=1e-12)
    assert images.std() > 1e-3
