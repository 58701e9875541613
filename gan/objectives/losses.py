"""Adversarial losses: functions of the logits of real and generated images, in their stable softplus forms.

Each returns a scalar whose gradient, averaged over the ranks, is that of the loss on the joint batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

from .ranks import all_ranks


class Loss(NamedTuple):
    """What discriminator and generator minimise, of the logits ``[B]`` of real and generated images.

    Attributes:
        discriminator: ``(real, fake) -> scalar``.
        generator: ``(real, fake) -> scalar``; real may be None unless the loss is relativistic.
        relativistic: whether the generator's loss looks at the real images.
    """

    discriminator: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    generator: Callable[[torch.Tensor | None, torch.Tensor], torch.Tensor]
    relativistic: bool = False


def relativistic_average(ahead: torch.Tensor, behind: torch.Tensor) -> torch.Tensor:
    """-log sigmoid of how far each logit is ahead of the others' mean, both ways (Jolicoeur-Martineau 2018).

    The discriminator wants the real images ahead, the generator its own. The sum of the two terms, as Dey et al. take
    it, not their mean. The means are over all ranks.
    """
    ahead, behind = all_ranks(ahead), all_ranks(behind)
    return F.softplus(behind.mean() - ahead).mean() + F.softplus(behind - ahead.mean()).mean()


def relativistic_pairing(ahead: torch.Tensor, behind: torch.Tensor) -> torch.Tensor:
    """-log sigmoid of how far each logit is ahead of the one at the same position (Huang et al. 2024)."""
    return F.softplus(behind - ahead).mean()


def _nonsaturating_discriminator(real, fake):
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def _hinge_discriminator(real, fake):
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def alpha_conjugate(y: torch.Tensor, alpha: float) -> torch.Tensor:
    """f*(y), the Legendre transform of f(x) = (x^alpha - 1) / (alpha (alpha - 1)) on x >= 0, for alpha > 1."""
    power = alpha / (alpha - 1)
    return F.relu(y) ** power * ((alpha - 1) ** power / alpha) + 1 / (alpha * (alpha - 1))


def alpha_divergence(alpha: float) -> Loss:
    """D_alpha^Gamma, E D(real) - E f*(D(fake)), the discriminator's maximum of it (Birrell et al. 2022).

    Its discriminator belongs to the 1-Lipschitz functions: train it with ``penalties.lipschitz``.
    """
    if not alpha > 1:
        raise ValueError(f"alpha: expected more than 1, got {alpha!r}")
    return Loss(
        discriminator=lambda real, fake: alpha_conjugate(fake, alpha).mean() - real.mean(),
        generator=lambda real, fake: -alpha_conjugate(fake, alpha).mean(),
    )


LOSSES = {
    "ragan": Loss(relativistic_average, lambda real, fake: relativistic_average(fake, real), relativistic=True),
    "rpgan": Loss(relativistic_pairing, lambda real, fake: relativistic_pairing(fake, real), relativistic=True),
    # Goodfellow et al. 2014, with the generator's -log D.
    "nsgan": Loss(_nonsaturating_discriminator, lambda real, fake: F.softplus(-fake).mean()),
    # Arjovsky et al. 2017.
    "wgan": Loss(lambda real, fake: fake.mean() - real.mean(), lambda real, fake: -fake.mean()),
    # Lim & Ye 2017, Tran et al. 2017.
    "hinge": Loss(_hinge_discriminator, lambda real, fake: -fake.mean()),
    # Isola et al. 2017: cross-entropy, the discriminator's halved; for logits of patches. The generator adds 100 L1.
    "pix2pix": Loss(
        lambda real, fake: _nonsaturating_discriminator(real, fake) / 2, lambda real, fake: F.softplus(-fake).mean()
    ),
}


def build_loss(name: str, alpha: float = 2.0) -> Loss:
    """The loss of that name: a key of ``LOSSES``, or "alpha" for :func:`alpha_divergence`."""
    if name == "alpha":
        return alpha_divergence(alpha)
    if name not in LOSSES:
        raise ValueError(f"loss: expected one of {', '.join(LOSSES)}, alpha, got {name!r}")
    return LOSSES[name]
