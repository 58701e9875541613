"""Networks from their presets."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import nn

import gcnn_kernels as gk
from gcnn_kernels.functional import ACTIVATION_SLOPES

from .blocks import Bottleneck
from .discriminator import Discriminator
from .generator import SYMMETRIES, Generator
from .pix2pix import PatchDiscriminator, Translator
from .spectral import spectral_normalize
from .tables import PAIR_PRESETS, PRESETS


def build_generator(
    preset: str,
    group: str,
    *,
    width: float = 1.0,
    classes: int | None = None,
    image_channels: int | None = None,
    symmetry: str = "incomplete",
    sync: bool = False,
) -> Generator:
    """The generator of a preset.

    Args:
        preset: a key of ``gan.networks.PRESETS``.
        group: "p1" for the plain CNN, "p4", "p4m", "c8", ... for the G-CNN with as many parameters.
        width: factor of all widths; every layer keeps at least one map.
        classes, image_channels: the preset's own if None.
        symmetry: "incomplete" (Dey et al.) or "full" (Birrell et al.); see :class:`Generator`.
        sync: batch norm over all ranks.

    Raises:
        ValueError: for an argument that does not fit; the message names it.
    """
    table, arguments = _resolve(PRESETS, preset, group, width, image_channels)
    _one_of("symmetry", symmetry, SYMMETRIES)
    network = Generator(table.generator, classes=_classes(table, classes), symmetry=symmetry, **arguments)
    _initialize(network, table.init)
    if table.init != "fixup":
        spectral_normalize(network, exclude=(network.embedding,))
    return _synchronize(network, sync)


def build_discriminator(
    preset: str,
    group: str,
    *,
    width: float = 1.0,
    classes: int | None = None,
    image_channels: int | None = None,
    auxiliary_rotations: bool = False,
    sync: bool = False,
) -> Discriminator:
    """The discriminator of a preset; arguments and errors as for :func:`build_generator`.

    Args:
        auxiliary_rotations: with a second head that tells by how many quarter turns an image was moved
            (``Discriminator.rotation_logits``).

    Raises:
        ValueError: also if the discriminator is rotation-invariant, so that the head could learn nothing.
    """
    table, arguments = _resolve(PRESETS, preset, group, width, image_channels)
    network = Discriminator(
        table.discriminator,
        classes=_classes(table, classes),
        auxiliary_rotations=auxiliary_rotations,
        **arguments,
    )
    _initialize(network, table.init)
    if table.init != "fixup":
        spectral_normalize(network)
    return _synchronize(network, sync)


def build_translator(
    preset: str, group: str, *, width: float = 1.0, image_channels: int | None = None, sync: bool = False
) -> Translator:
    """The generator of a preset of image pairs, a key of ``gan.networks.PAIR_PRESETS``.

    ``width=2`` with "p4" gives the widths that Table 16 prints. Other arguments and errors as for
    :func:`build_generator`.
    """
    table, arguments = _resolve(PAIR_PRESETS, preset, group, width, image_channels)
    network = Translator(table.translator, **arguments)
    _initialize(network, "isola")
    return _synchronize(network, sync)


def build_patch_discriminator(
    preset: str, group: str, *, width: float = 1.0, image_channels: int | None = None, sync: bool = False
) -> PatchDiscriminator:
    """The discriminator of a preset of image pairs; arguments and errors as for :func:`build_translator`."""
    table, arguments = _resolve(PAIR_PRESETS, preset, group, width, image_channels)
    network = PatchDiscriminator(table.discriminator, **arguments)
    _initialize(network, "isola")
    return _synchronize(network, sync)


def _resolve(presets, preset, group, width, image_channels):
    """The table, and the arguments that all networks share."""
    _one_of("preset", preset, presets)
    if not 0 < width < math.inf:
        raise ValueError(f"width: expected a positive factor, got {width!r}")
    table, point = presets[preset], gk.point_group(group)
    channels = _at_least_one("image_channels", table.channels if image_channels is None else image_channels)
    return table, {
        "group": point.name,
        "scale": partial(_scale, width, point.order),
        "image_channels": channels,
    }


def _scale(width: float, order: int, channels: int, *, planar: bool = False) -> int:
    """Maps on the group, or planar ones, in place of the CNN's channels."""
    return max(1, math.floor(width * channels / (1 if planar else math.sqrt(order))))


def _classes(table, classes):
    return _at_least_one("classes", table.classes if classes is None else classes)


def _one_of(name, value, allowed):
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")


def _at_least_one(name, value):
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value!r}")
    return value


@torch.no_grad()
def _initialize(network: nn.Module, init: str) -> None:
    """Weights orthogonal as matrices ``[Cout, -1]``, or normal with standard deviation 0.02; biases zero.

    "isola" is "normal" with the scales of the norms normal around 1 (pix2pix); the other two leave the norms alone.
    "fixup" is that of Huang et al.
    """
    if init == "fixup":
        _initialize_fixup(network)
        return
    for module in network.modules():
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if weight is None:
            continue
        if weight.dim() == 1:
            if init == "isola":
                nn.init.normal_(weight, 1.0, 0.02)
            continue
        if init == "orthogonal":
            nn.init.orthogonal_(weight)
        else:
            nn.init.normal_(weight, std=0.02)
        if bias is not None:
            nn.init.zeros_(bias)


def _initialize_fixup(network: nn.Module) -> None:
    """Normal weights that keep the variance; blocks that begin as the identity (Zhang et al. 2019, Huang et al. 2024).

    A block's first two convolutions are scaled for leaky ReLU and by the number of blocks to the power -1/4. Embeddings
    are linear maps of one-hot vectors; a discriminator's has the scale of its product with the features.
    """
    for module in network.modules():
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        if weight is not None:
            fan_in = len(weight) if isinstance(module, nn.Embedding) else weight[0].numel()
            nn.init.normal_(weight, std=fan_in**-0.5)
        if bias is not None:
            nn.init.zeros_(bias)
    if isinstance(network, Discriminator):
        network.embedding.weight /= math.sqrt(network.embedding.embedding_dim)
    blocks = [module for module in network.modules() if isinstance(module, Bottleneck)]
    for block in blocks:
        for layer in (block.conv1, block.conv2):
            layer.weight *= math.sqrt(2 / (1 + ACTIVATION_SLOPES["leaky_relu"] ** 2)) * len(blocks) ** -0.25
        nn.init.zeros_(block.conv3.weight)


def _synchronize(network, sync):
    for module in network.modules():
        if isinstance(module, (gk.nn.GroupBatchNorm2d, gk.nn.ConditionalGroupBatchNorm2d)):
            module.sync = sync
    return network
