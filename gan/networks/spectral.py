"""Spectral normalisation."""

from __future__ import annotations

from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrize import register_parametrization


class SpectralNorm(nn.Module):
    """A weight divided by its largest singular value (Miyato et al. 2018); a parametrisation.

    The weight is read as the matrix ``[Cout, -1]``. For a group filter that is the filter before its expansion: the
    filter in every other pose has the same singular values. Every use in training makes one power iteration; the
    gradient flows through the singular value. Autocast does not reach in here: the estimate needs fp32.

    torch's own ``spectral_norm`` keeps both singular vectors and so multiplies by the weight three times where two do.
    """

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.kept = False
        self.register_buffer("u", F.normalize(weight.new_empty(len(weight)).normal_(), dim=0))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            matrix = weight.flatten(1)
            v = F.normalize(matrix.detach().T @ self.u, dim=0)
            image = matrix @ v
            u = F.normalize(image.detach(), dim=0)
            if self.training and not self.kept:
                self.u.copy_(u)
            return weight * torch.dot(u, image).reciprocal()  # half the passes of a division's gradient


@contextmanager
def singular_vectors_kept(network: nn.Module):
    """A use within this context computes what the next one outside will compute, and leaves it to that to remember."""
    norms = [module for module in network.modules() if isinstance(module, SpectralNorm)]
    for norm in norms:
        norm.kept = True
    try:
        yield
    finally:
        for norm in norms:
            norm.kept = False


def leave_out_of_compilation() -> None:
    """From here on ``torch.compile`` calls spectral norms as they are.

    What they change in place, inductor would itself keep for the backward pass, and a network could not be used twice
    before it.
    """
    SpectralNorm.forward = torch.compiler.disable(SpectralNorm.forward)


def spectral_normalize(network: nn.Module, exclude: tuple[nn.Module, ...] = ()) -> None:
    """Puts :class:`SpectralNorm` on the weight of every convolution, linear map and embedding but the excluded ones."""
    for module in list(network.modules()):
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.dim() > 1 and module not in exclude:
            register_parametrization(module, "weight", SpectralNorm(weight), unsafe=True)  # no trial run
