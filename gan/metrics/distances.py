"""Distances between two sets of features, generated and real, by torch-fidelity's formulas in float64."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

#: below this many images the covariance of 2,048 features has no full rank, and other estimates are rough
FEW_IMAGES = 2048

#: of improved precision and recall
NEIGHBOURS = 3

#: rows of distances that are held at a time
ROWS = 1000


class Gaussian(NamedTuple):
    """Mean float64 ``[F]`` and covariance ``[F, F]`` of features."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, features: torch.Tensor) -> Gaussian:
        """Of features ``[N, F]``, N at least 2."""
        found = fid_features_to_statistics(features.double())
        return cls(found["mu"], found["sigma"])


def frechet_distance(generated: Gaussian, real: Gaussian) -> float:
    """Heusel et al. (2017)."""
    statistics = [{"mu": gaussian.mean, "sigma": gaussian.covariance} for gaussian in (generated, real)]
    return fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]


def kernel_distance(generated: torch.Tensor, real: torch.Tensor, *, seed: int = 2020) -> tuple[float, float]:
    """Mean and standard deviation of KID over 100 subsets of at most 1,000 images (Binkowski et al. 2018)."""
    size = min(1000, len(generated), len(real))
    result = kid_features_to_metric(
        generated.double(), real.double(), kid_subsets=100, kid_subset_size=size, kid_kernel="poly",
        kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1.0, rng_seed=seed, verbose=False,
    )  # fmt: skip
    return result["kernel_inception_distance_mean"], result["kernel_inception_distance_std"]


class Manifold(NamedTuple):
    """Features ``[N, F]`` and, for each of them, the distance ``[N]`` of its third neighbour: balls around them all.

    torch-fidelity measures those of the real images anew for every generator, and searches ten times longer.
    """

    features: torch.Tensor
    radii: torch.Tensor

    @classmethod
    def of(cls, features: torch.Tensor) -> Manifold:
        return cls(features.double(), neighbour_distances(features))

    def share_inside(self, features: torch.Tensor) -> float:
        """Share of other features that lie in at least one ball."""
        inside = [(torch.cdist(some, self.features) <= self.radii).any(1) for some in features.double().split(ROWS)]
        return torch.cat(inside).double().mean().item()


def neighbour_distances(features: torch.Tensor) -> torch.Tensor:
    """Float64 ``[N]``: of the third neighbour of each of the features ``[N, F]``, whose ``N^2`` distances are computed.

    Raises:
        ValueError: if N is below 4.
    """
    if len(features) <= NEIGHBOURS:
        raise ValueError(f"precision and recall need more than {NEIGHBOURS} images, got {len(features)}")
    features = features.double()
    nearest = [torch.cdist(some, features).topk(NEIGHBOURS + 1, largest=False).values for some in features.split(ROWS)]
    return torch.cat(nearest)[:, -1]


def precision_recall(generated: Manifold, real: Manifold) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019)."""
    return real.share_inside(generated.features), generated.share_inside(real.features)
