"""digits: the 1,797 real digits that scikit-learn carries, rotated. Needs no download."""

from __future__ import annotations

import numpy as np

from .imageset import ImageSet, content_fingerprint, stratified_order
from .rotate import rotate

RESOLUTION = 16
ANGLES = 8
TRAIN = 1437
SEED = 0
VIEW = 10


def load_digits(split: str) -> ImageSet:
    """Each 8x8 digit at eight uniform random angles, 16x16x1: 11,496 images for training, 2,880 for validation.

    A fixed, stratified choice of 1,437 digits serves training, the other 360 validation: no digit is in both. Enlarging
    and rotating are one bilinear resampling of a field of 10x10 source pixels, so that no corner of a digit is lost.
    """
    from sklearn import datasets

    source = datasets.load_digits()
    order = stratified_order(source.target, SEED)
    angles = np.random.default_rng(SEED).uniform(0, 2 * np.pi, (len(order), ANGLES))
    chosen = np.sort(order[:TRAIN] if split == "train" else order[TRAIN:])
    repeated = np.repeat(chosen, ANGLES)
    rotated = rotate(source.images[repeated], angles[chosen].ravel(), size=RESOLUTION, step=VIEW / RESOLUTION)
    images = np.rint(rotated * (255 / 16)).astype(np.uint8)[..., None]
    labels = source.target[repeated].astype(np.int64)
    names = tuple(map(str, range(10)))
    return ImageSet(
        "digits",
        split,
        images,
        labels,
        names,
        content_fingerprint(images, labels, name="digits", split=split),
        notes=(f"{len(chosen)} digits of scikit-learn's 1,797, each at {ANGLES} random angles (seed {SEED})",),
    )
