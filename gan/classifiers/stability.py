"""How much a classifier's score changes while its input makes a full turn (after Lafarge et al. 2020)."""

from __future__ import annotations

import math

import numpy as np
import torch

from .rotations import rotate

STEPS = 48


def rotated(image: torch.Tensor) -> torch.Tensor:
    """float32 ``[STEPS + 1, C, H, W]``: an image ``[C, H, W]`` from 0 to 360 degrees, the last one being the first."""
    angles = torch.arange(STEPS + 1) * (2 * math.pi / STEPS)
    return rotate(image.expand(len(angles), -1, -1, -1), angles)


@torch.no_grad()
def scores_under_a_turn(model, image: torch.Tensor, label: int) -> np.ndarray:
    """``[STEPS + 1]``: the probability of class ``label`` at every angle, from a model in evaluation mode."""
    return model(rotated(image)).softmax(1)[:, label].double().numpy()


def mean_swing(model, images: torch.Tensor, labels) -> float:
    """The difference between highest and lowest probability of the right class, averaged over ``[B, C, H, W]``."""
    pairs = zip(images, labels, strict=True)
    return float(np.mean([np.ptp(scores_under_a_turn(model, image, int(label))) for image, label in pairs]))
