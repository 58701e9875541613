"""Training of a classifier and its test error."""

from __future__ import annotations

import time

import numpy as np
import torch
import torch.nn.functional as F

from ..common.memory import freed_memory_kept
from ..data.imageset import stratified_order
from ..data.order import DataOrder
from .rotations import random_rotations

#: Cohen & Welling (2016), RotMNIST
BATCH_SIZE, LEARNING_RATE, EPOCHS = 128, 1e-3, 100

#: On the way, the error is measured about so often and on at most so many validation images.
EVALUATIONS, SOME_IMAGES = 10, 2000
TEST_BATCH = 128


@freed_memory_kept()
def train_classifier(
    model, train, validation, *, epochs: int, seed: int, device, log, augment: bool = False,
    batch_size: int = BATCH_SIZE, learning_rate: float = LEARNING_RATE,
) -> list[dict]:  # fmt: skip
    """Minimise the cross-entropy with Adam at a rate that falls to zero along a half cosine.

    Args:
        model: from pixels in [0, 255] ``[B, C, H, W]`` to logits ``[B, classes]``; changed in place and left in
            evaluation mode.
        train, validation: ``ImageSet``s. Validation images are only looked at: nothing is chosen by them.
        epochs: passes over the training images.
        seed: of the order of the images and of their angles.
        log: called with one line per epoch.
        augment: turn the images by random angles (:func:`gan.classifiers.rotations.random_rotations`).
        batch_size, learning_rate: Cohen & Welling's unless given.

    Returns:
        one record per epoch: epoch, loss (mean of the epoch), seconds. Every tenth of the epochs also :func:`scores` of
        a part of the validation images; the last record has those of all of them.
    """
    images = train.resident(device)
    some = stratified_order(validation.labels, seed=0)[:SOME_IMAGES]
    order = DataOrder(len(train), min(batch_size, len(train)), seed)
    batches = len(train) // order.batch_size
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    history = []
    for epoch in range(epochs):
        start, total = time.monotonic(), torch.zeros((), device=device)
        model.train()
        for batch in range(epoch * batches, (epoch + 1) * batches):
            pixels, labels = images.batch(order[batch])
            pixels = pixels.permute(0, 3, 1, 2)
            loss = F.cross_entropy(model(random_rotations(pixels, seed, batch) if augment else pixels), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
        record = {"epoch": epoch + 1, "loss": total.item() / batches, "seconds": time.monotonic() - start}
        line = f"epoch {epoch + 1}/{epochs}  loss {record['loss']:.4f}  {record['seconds']:.1f} s"
        last = epoch + 1 == epochs
        if last or (epoch + 1) * EVALUATIONS // epochs > epoch * EVALUATIONS // epochs:
            looked_at = range(len(validation)) if last else some
            record |= {"images": len(looked_at)} | scores(model, validation, looked_at, device)
            line += f"  error on {len(looked_at):,} validation images {100 * record['error']:.2f}%"
        history.append(record)
        log(line)
    return history


def scores(model, images, indices, device) -> dict[str, float]:
    """How well the model, left in evaluation mode, tells the classes of the images at ``indices``.

    Returns:
        error: share of the images whose largest logit is not their label's; and with two classes f1: the harmonic mean
        of precision and recall for the second of them, 0 if none was found.
    """
    model.eval()
    chosen, labels = [], torch.from_numpy(images.labels[np.asarray(indices)])
    for start in range(0, len(indices), TEST_BATCH):
        pixels, _ = images.batch(indices[start : start + TEST_BATCH])
        with torch.no_grad():
            chosen.append(model(pixels.to(device).permute(0, 3, 1, 2)).argmax(1).cpu())
    chosen = torch.cat(chosen)
    result = {"error": (chosen != labels).double().mean().item()}
    if len(images.class_names) == 2:
        hits, claimed, there = (int(part.sum()) for part in (chosen * labels, chosen, labels))
        result["f1"] = 2 * hits / max(1, claimed + there)
    return result
