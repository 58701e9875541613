"""What generator and discriminator minimise: adversarial losses, gradient penalties, augmentations."""

from .augmentation import auxiliary_rotations, consistency, consistency_warning
from .diffaugment import diffaugment
from .losses import LOSSES, Loss, build_loss
from .penalties import lipschitz, wgan_gp, zero_centred
from .ranks import all_ranks

__all__ = [
    "LOSSES",
    "Loss",
    "all_ranks",
    "auxiliary_rotations",
    "build_loss",
    "consistency",
    "consistency_warning",
    "diffaugment",
    "lipschitz",
    "wgan_gp",
    "zero_centred",
]
