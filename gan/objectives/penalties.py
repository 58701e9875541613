"""Gradient penalties of the discriminator: losses that contain its derivative with respect to images."""

from __future__ import annotations

import torch

import gcnn_kernels as gk

_PIXELS = (1, 2, 3)  # summed as they lie in memory: flattened, images in channels_last would be copied


def image_gradients(logits: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """``[B, C, H, W]``: d logit_b / d image_b in fp32, differentiable with respect to the discriminator's parameters.

    ``images`` ``[B, C, H, W]`` must require a gradient, and ``logits`` ``[B]`` be computed from them.
    """
    with gk.no_weight_gradients():
        (gradients,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradients.float()


def zero_centred(logits: torch.Tensor, images: torch.Tensor, gamma: float) -> torch.Tensor:
    """gamma / 2 * E ||grad D||^2: R1 on real images, R2 on generated ones (Mescheder et al. 2018).

    Example:
        >>> images = real.detach().requires_grad_()
        >>> penalty = zero_centred(discriminator(images, labels), images, gamma=0.1)
    """
    return gamma / 2 * image_gradients(logits, images).square().sum(_PIXELS).mean()


def wgan_gp(discriminator, real, fake, labels, weight: float, shares: torch.Tensor) -> torch.Tensor:
    """weight * E (||grad D|| - 1)^2 between real and generated images (Gulrajani et al. 2017).

    Args:
        discriminator: called with images and labels.
        real, fake: images ``[B, C, H, W]`` of the same classes ``labels`` ``[B]``.
        weight: 10 in the paper.
        shares: ``[B]``, uniform in [0, 1]: how far from the real image to the generated one the gradient is taken.
    """
    gradients = _gradients_between(discriminator, real, fake, labels, shares)
    return weight * (torch.linalg.vector_norm(gradients, dim=_PIXELS) - 1).square().mean()


def lipschitz(discriminator, real, fake, labels, weight: float, shares: torch.Tensor) -> torch.Tensor:
    """weight * E max(0, ||grad D||^2 - 1), one-sided (Birrell et al. 2022); arguments as for :func:`wgan_gp`."""
    gradients = _gradients_between(discriminator, real, fake, labels, shares)
    return weight * torch.relu(gradients.square().sum(_PIXELS) - 1).mean()


def _gradients_between(discriminator, real, fake, labels, shares):
    images = torch.lerp(real.detach(), fake.detach(), shares.to(real).view(-1, 1, 1, 1)).requires_grad_()
    return image_gradients(discriminator(images, labels), images)
