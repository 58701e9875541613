"""Inception, fine-tuned on the classes of images that are nothing like ImageNet's (Dey et al. 2021: anhir, lysto)."""

from __future__ import annotations

from pathlib import Path

import torch

from .inception import INCEPTION, InceptionClassifier, read_inception
from .store import Description, store
from .training import train_classifier

#: The papers say no more than "fine-tuned"; these are ours.
EPOCHS, BATCH_SIZE, LEARNING_RATE = 5, 32, 1e-4


def fine_tune_and_store(train, validation, weights: Path, *, epochs: int, seed: int, device, log) -> Path:
    """Train Inception on the classes of the images, all of its layers, and put it into the cache; returns its file.

    Args:
        train, validation: ``ImageSet``s.
        weights: what it begins with, a file of the official one's layout. Its layer to ImageNet's 1,008 classes is
            kept as it is and takes no part; a new one to the classes begins at random.
        epochs, seed, device, log: as for :func:`gan.classifiers.training.train_classifier`.
    """
    network = read_inception(weights).requires_grad_(True)
    network.fc.requires_grad_(False)
    torch.manual_seed(seed)
    model = InceptionClassifier(network, len(train.class_names)).to(device)
    history = train_classifier(
        model, train, validation, epochs=epochs, seed=seed, device=device, log=log,
        batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE,
    )  # fmt: skip
    description = Description(
        INCEPTION, train.resolution, train.channels, len(train.class_names), dataset=train.name,
        data=train.fingerprint, epochs=epochs, seed=seed, error=history[-1]["error"],
        f1=history[-1].get("f1"),
    )  # fmt: skip
    return store(model, description, history)
