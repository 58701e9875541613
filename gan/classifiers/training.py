"""Training of a classifier and its test error."""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F

from ..training.randomness import DataOrder

#: Cohen & Welling (2016), RotMNIST
BATCH_SIZE, LEARNING_RATE, EPOCHS = 128, 1e-3, 100


def train_classifier(model, train, validation, *, epochs: int, seed: int, device, log) -> list[dict]:
    """Minimise the cross-entropy with Adam, batches of 128, at 1e-3 falling to zero along a half cosine.

    Args:
        model: from uint8 ``[B, C, H, W]`` to logits ``[B, classes]``; changed in place and left in evaluation mode.
        train, validation: ``ImageSet``s.
        epochs: passes over the training images.
        seed: of the order of the images.
        log: called with one line per epoch.

    Returns:
        one record per epoch: epoch, loss (mean of the epoch), error (of the validation images), seconds.
    """
    images = train.resident(device)
    order = DataOrder(len(train), min(BATCH_SIZE, len(train)), seed)
    batches = len(train) // order.batch_size
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    history = []
    for epoch in range(epochs):
        start, total = time.monotonic(), torch.zeros((), device=device)
        model.train()
        for batch in range(epoch * batches, (epoch + 1) * batches):
            pixels, labels = images.batch(order[batch])
            loss = F.cross_entropy(model(pixels.permute(0, 3, 1, 2)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
        error = test_error(model, validation, device)
        seconds = time.monotonic() - start
        history.append({"epoch": epoch + 1, "loss": total.item() / batches, "error": error, "seconds": seconds})
        log(
            f"epoch {epoch + 1}/{epochs}  loss {history[-1]['loss']:.4f}  "
            f"validation error {100 * error:.2f}%  {seconds:.1f} s"
        )
    return history


@torch.no_grad()
def test_error(model, images, device, batch_size: int = 500) -> float:
    """Share of the images whose largest logit is not their label's; the model is left in evaluation mode."""
    model.eval()
    wrong = 0
    for start in range(0, len(images), batch_size):
        pixels, labels = images.batch(range(start, min(start + batch_size, len(images))))
        logits = model(pixels.to(device).permute(0, 3, 1, 2))
        wrong += int((logits.argmax(1).cpu() != labels).sum())
    return wrong / len(images)
