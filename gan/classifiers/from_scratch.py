"""Classifiers trained from random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from .build import build_classifier, count_parameters
from .normalised import NormalisedClassifier, pixel_moments
from .store import Description, store
from .training import train_classifier


@dataclass(frozen=True)
class Trained:
    """A classifier, what it is, and one record per epoch of its training."""

    model: NormalisedClassifier
    description: Description
    history: list[dict]


def train_new(
    model_name, train, validation, *, epochs: int, seed: int, device, log, augment: bool = False, fraction: float = 1.0
) -> Trained:
    """Train a classifier from random weights; arguments as for :func:`train_classifier` and :class:`Description`."""
    torch.manual_seed(seed)
    shape = {"resolution": train.resolution, "channels": train.channels, "classes": len(train.class_names)}
    mean, std = pixel_moments(train.images)
    model = build_classifier(model_name, **shape, mean=mean, std=std)
    history = train_classifier(
        model.to(device), train, validation, epochs=epochs, seed=seed, device=device, log=log, augment=augment
    )
    description = Description(
        model_name, **shape, dataset=train.name, data=train.fingerprint, epochs=epochs, seed=seed,
        error=history[-1]["error"], fraction=fraction, augment=augment, parameters=count_parameters(model),
        f1=history[-1].get("f1"),
    )  # fmt: skip
    return Trained(model, description, history)


def train_and_store(model_name, train, validation, **options) -> Path:
    """Train a classifier and put it into the cache; returns its file. Options as for :func:`train_new`."""
    trained = train_new(model_name, train, validation, **options)
    return store(trained.model, trained.description, trained.history)
