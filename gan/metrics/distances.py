"""Distances between two sets of features, generated and real, by torch-fidelity's formulas in float64."""

from __future__ import annotations

import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

#: below this many images the covariance of 2,048 features has no full rank, and other estimates are rough
FEW_IMAGES = 2048


def frechet_distance(generated: torch.Tensor, real: torch.Tensor) -> float:
    """Heusel et al. (2017). Features ``[N, F]``, N at least 2."""
    statistics = [fid_features_to_statistics(features.double()) for features in (generated, real)]
    return fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]


def kernel_distance(generated: torch.Tensor, real: torch.Tensor, *, seed: int = 2020) -> tuple[float, float]:
    """Mean and standard deviation of KID over 100 subsets of at most 1,000 images (Binkowski et al. 2018)."""
    size = min(1000, len(generated), len(real))
    result = kid_features_to_metric(
        generated.double(), real.double(), kid_subsets=100, kid_subset_size=size, kid_kernel="poly",
        kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1.0, rng_seed=seed, verbose=False,
    )  # fmt: skip
    return result["kernel_inception_distance_mean"], result["kernel_inception_distance_std"]


def precision_recall(generated: torch.Tensor, real: torch.Tensor) -> tuple[float, float]:
    """Improved precision and recall with three neighbours (Kynkaanniemi et al. 2019)."""
    result = prc_features_to_metric(
        generated, real, prc_neighborhood=3, prc_batch_size=10_000, save_cpu_ram=True, verbose=False
    )
    return result["precision"], result["recall"]
