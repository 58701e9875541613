"""How far training images are from validation images (Dey et al. 2021, Table 2, "Real data")."""

from __future__ import annotations

from .. import data
from ..metrics.evaluation import Evaluation
from ..options import Options

#: share of the training images of rotmnist -> the Frechet distance that the paper prints
REAL_DATA = {0.10: 0.6854, 0.33: 0.3208, 0.66: 0.1324, 1.0: 0.1296}


def real_data_distances(options: Options, evaluation: Evaluation) -> dict[str, dict]:
    """Frechet distances of shares of the training images, next to the paper's for rotmnist."""
    distances, resolution = {}, evaluation.images.resolution
    for fraction, paper in REAL_DATA.items():
        some = data.load(options.dataset, options.data, fraction=fraction, seed=options.seed, resolution=resolution)
        distances[f"{fraction:.0%}"] = evaluation.of_images(some)
        if options.dataset == "rotmnist":
            distances[f"{fraction:.0%}"]["paper"] = paper
    return distances
