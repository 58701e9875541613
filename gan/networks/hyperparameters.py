"""The papers' hyper-parameters as data: what differs from the defaults of :class:`gan.options.Options`."""

from __future__ import annotations

_HISTOLOGY = {"generator_group": "p4m", "discriminator_group": "p4m", "iterations": 60_000, "batch_size": 32}

_R3GAN = {
    "loss": "rpgan", "schedule": "r3gan", "burn_in": 40_000, "iterations": 100_000, "d_updates": 1,
    "lr_g": 2e-4, "lr_d": 2e-4,
}  # fmt: skip

#: What differs from the defaults above. Dey et al. (2021), appendix; *64: Birrell et al. (2022); digits: ours.
PRESET_OPTIONS = {
    "digits": {
        "iterations": 600, "lr_g": 4e-4, "lr_d": 8e-4, "ema": 0.99,
        "eval_every": 150, "checkpoint_every": 150, "sample_every": 150, "log_every": 20,
    },
    "rotmnist": {},
    "cifar10": {"loss": "hinge", "r1": 0.01, "lr_g": 2e-4, "lr_d": 2e-4, "d_updates": 4, "iterations": 100_000},
    "food101": {"r1": 1.0, "iterations": 45_000},
    "anhir": _HISTOLOGY,
    "lysto": {**_HISTOLOGY, "batch_size": 16, "r1": 1.0, "lr_g": 5e-5, "lr_d": 2e-4},
    "anhir64": _HISTOLOGY,
    "lysto64": _HISTOLOGY,
    # Huang et al. (2024), CIFAR-10 and FFHQ-64, but for smaller batches and numbers of iterations.
    "r3gan32": {**_R3GAN, "r1": 0.05, "r2": 0.05},
    "r3gan64": {**_R3GAN, "r1": 2.0, "r2": 2.0, "generator_group": "p4m", "discriminator_group": "p4m"},
    # Isola et al. (2017): 200 epochs of 1,096 pairs, the translator's weights themselves and no average of them.
    "maps": {
        "eval_metrics": "kid",
        "loss": "pix2pix", "r1": 0.0, "l1": 100.0, "iterations": 200 * 1096, "batch_size": 1, "d_updates": 1,
        "lr_g": 2e-4, "lr_d": 2e-4, "beta1": 0.5, "beta2": 0.999, "ema": 0.0,
        "eval_every": 10 * 1096, "checkpoint_every": 1096, "sample_every": 1096, "log_every": 100,
    },
}  # fmt: skip

#: Losses whose discriminator has to be Lipschitz are penalised between real and generated images, not at them.
LOSS_OPTIONS = {name: {"r1": 0.0, "r2": 0.0, "gradient_penalty": 10.0} for name in ("wgan", "alpha")}

#: Weights of bcr on real and on generated images, of Zhao et al. (2020c) where Dey et al. have none of their own.
BCR_WEIGHTS = {"anhir": (0.1, 0.05), "lysto": (0.1, 0.05), "cifar10": (0.1, 0.1)}
BCR_WEIGHTS_ELSEWHERE = (10.0, 10.0)
BCR_WEIGHTS_FOOD101_EQUIVARIANT = (0.5, 0.5)

#: Data sets of pairs of images.
PAIRED = ("maps",)

#: Data sets with the networks of another one.
PRESET_OF_DATASET = {"rotmnist60k": "rotmnist"}
