"""Transformed images in the discriminator's objective: what the paper compares equivariance with (Dey et al., Table 3).

Standard augmentation moves the real images by a :class:`gan.common.symmetry.GroupAction`; it needs no function here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..common.symmetry import GroupAction, is_subgroup


def consistency(
    real: torch.Tensor,
    real_moved: torch.Tensor,
    fake: torch.Tensor,
    fake_moved: torch.Tensor,
    real_weight: float,
    fake_weight: float,
) -> torch.Tensor:
    """bCR, balanced consistency regularisation of the discriminator (Zhao et al. 2020c).

    real_weight * E (D(Tx) - D(x))^2 + fake_weight * E (D(TG) - D(G))^2, from the logits ``[B]`` of the images and of
    the same images moved.
    """
    return real_weight * F.mse_loss(real_moved, real) + fake_weight * F.mse_loss(fake_moved, fake)


def auxiliary_rotations(discriminator, images: torch.Tensor, action: GroupAction) -> torch.Tensor:
    """Cross-entropy of the discriminator's guess by how many quarter turns images were moved (Chen et al. 2019).

    The first quarter of the batch is taken, each image in all four poses. The discriminator adds this term on real
    images with weight 1, the generator on its own with weight 0.2.

    Args:
        discriminator: built with ``auxiliary_rotations=True``.
        images: ``[B, C, N, N]``.
        action: of "p4" on N x N images.
    """
    chosen = images[: max(1, len(images) // 4)]
    turns = torch.arange(4, device=images.device).repeat(len(chosen))
    logits = discriminator.rotation_logits(action(chosen.repeat_interleave(4, dim=0), turns))
    return F.cross_entropy(logits.float(), turns)


def consistency_warning(discriminator, group: str) -> str | None:
    """Why bCR over a group would teach this discriminator nothing, or None if it may."""
    if not is_subgroup(group, discriminator.invariance):
        return None
    return (
        f"bCR over {group} has no effect: the discriminator, with group {discriminator.group}, gives an image and its "
        f"images under {group} the same logit already"
    )
