"""Classifiers by name: "z2cnn", "p4cnn", "p4cnn-pooled", and "se2cnn-N" with N orientations."""

from __future__ import annotations

from collections.abc import Sequence

import gcnn_kernels as gk

from . import planar, se2
from .normalised import NormalisedClassifier

NAMES = (*planar.MODELS, *(f"se2cnn-{orientations}" for orientations in se2.ORIENTATIONS))


def build_classifier(
    name: str,
    resolution: int,
    channels: int,
    classes: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> NormalisedClassifier:
    """A classifier with random weights; the arguments as for :class:`gan.classifiers.planar.PlanarClassifier`."""
    if name not in NAMES:
        raise ValueError(f"model: expected one of {', '.join(NAMES)}, got {name!r}")
    if name in planar.MODELS:
        return planar.PlanarClassifier(name, resolution, channels, classes, mean, std)
    return se2.SE2Classifier(orientations_of(name), resolution, channels, classes, mean, std)


def named(model: str, orientations: int | None = None) -> str:
    """The name of a model that is given apart from its orientations: "se2cnn" has 8 unless given, others have none."""
    if model == "se2cnn":
        return f"se2cnn-{orientations or 8}"
    if orientations:
        raise ValueError(f"orientations: only se2cnn has them, not {model}")
    return model


def orientations_of(name: str) -> int:
    """N of "se2cnn-N"."""
    return int(name.removeprefix("se2cnn-"))


def count_parameters(model: NormalisedClassifier) -> int:
    """The trained numbers that reach the output: without the taps of interpolated filters outside their disk."""
    outside = 0
    for module in model.modules():
        if isinstance(module, gk.nn.LiftingConv2d | gk.nn.GroupConv2d):
            used = module.point_group.filter_rotations(module.kernel_size).any((0, 1)).mean()
            outside += round((1 - used) * module.weight.numel())
    return sum(parameter.numel() for parameter in model.parameters()) - outside
