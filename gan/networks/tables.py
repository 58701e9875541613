"""The networks as data, one entry per preset.

Widths are those of the plain CNN. A G-CNN over a point group of order n has floor(width / sqrt(n)) maps where its
convolutions are over the group, which keeps the number of parameters (Dey et al. 2021, section 2.2).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """One row of the papers' tables.

    Attributes:
        width: channels out.
        resample: whether a generator's block doubles and a discriminator's block halves the plane.
        norm: in generators of kind "conv": whether the block normalises.
        planar: in discriminators: whether the block comes after the maximum over the group.
    """

    width: int
    resample: bool = True
    norm: bool = True
    planar: bool = False


@dataclass(frozen=True)
class GeneratorTable:
    """``kind``: "conv" (convolution, norm, ReLU, up), "residual" or "bottleneck" (a stage of R3GAN).
    ``projection``: first map's channels and size.
    """

    latent: int
    embedding: int
    projection: tuple[int, int]
    kind: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class DiscriminatorTable:
    """``kind``: "conv" (convolution, LeakyReLU, pool), "residual", "residual-bn", which normalises before each ReLU, or
    "bottleneck" (a stage of R3GAN). ``pool``: "average", "max" or, for those stages only, "blur". ``readout``: "mean"
    or "sum" over the plane, or "basis", a depthwise 4 x 4 convolution before the maximum over the group.
    """

    kind: str
    blocks: tuple[Block, ...]
    pool: str
    readout: str = "mean"


@dataclass(frozen=True)
class Preset:
    """``group``: of the paper's G-CNN. ``init``: "orthogonal" or "normal" (standard deviation 0.02), both
    with spectral norm, or "fixup", without."""

    group: str
    channels: int
    classes: int
    generator: GeneratorTable
    discriminator: DiscriminatorTable
    init: str = "orthogonal"

    @property
    def image_size(self) -> int:
        """Height and width of the images."""
        return self.generator.projection[1] * 2 ** sum(block.resample for block in self.generator.blocks)


@dataclass(frozen=True)
class TranslatorTable:
    """A U-Net: widths of the blocks that halve the plane and of those that double it; one more doubling ends it."""

    down: tuple[int, ...]
    up: tuple[int, ...]


@dataclass(frozen=True)
class PatchTable:
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class PairPreset:
    """``group``: of the paper's G-CNN."""

    group: str
    channels: int
    translator: TranslatorTable
    discriminator: PatchTable

    @property
    def image_size(self) -> int:
        """Height and width of the images."""
        return 2 ** len(self.translator.down)


def _blocks(*widths: int) -> tuple[Block, ...]:
    return tuple(Block(width) for width in widths)


def _stages(first: int, *others: int) -> tuple[Block, ...]:
    """R3GAN resamples at the beginning of every stage but the first."""
    return (Block(first, resample=False), *_blocks(*others))


PRESETS = {
    # The rotmnist networks for 16 x 16 images of scikit-learn's digits, sized for minutes on two CPU cores.
    "digits": Preset(
        group="p4", channels=1, classes=10,
        generator=GeneratorTable(
            latent=32, embedding=32, projection=(64, 4), kind="conv",
            blocks=(Block(128, norm=False), Block(64), Block(32, resample=False)),
        ),
        discriminator=DiscriminatorTable(kind="conv", blocks=_blocks(32, 64, 128), pool="average"),
    ),
    # Dey et al. 2021, Tables 5 and 6.
    "rotmnist": Preset(
        group="p4", channels=1, classes=10,
        generator=GeneratorTable(
            latent=64, embedding=64, projection=(128, 7), kind="conv",
            blocks=(Block(512, norm=False), Block(256), Block(128, resample=False)),
        ),
        discriminator=DiscriminatorTable(kind="conv", blocks=_blocks(128, 256, 512), pool="average"),
    ),
    # Tables 7 and 8.
    "anhir": Preset(
        group="p4m", channels=3, classes=5,
        generator=GeneratorTable(
            latent=128, embedding=128, projection=(128, 4), kind="residual", blocks=_blocks(512, 256, 128, 64, 32)
        ),
        discriminator=DiscriminatorTable(kind="residual", blocks=_blocks(32, 64, 128, 256, 512), pool="max"),
    ),
    # Tables 9 and 10.
    "lysto": Preset(
        group="p4m", channels=3, classes=3,
        generator=GeneratorTable(
            latent=128, embedding=128, projection=(128, 4), kind="residual", blocks=_blocks(512, 256, 128, 64, 32, 16)
        ),
        discriminator=DiscriminatorTable(kind="residual-bn", blocks=_blocks(16, 32, 64, 128, 256, 512), pool="max"),
    ),
    # Tables 11 and 12. The last block is planar, so this discriminator sees orientation.
    "cifar10": Preset(
        group="p4", channels=3, classes=10,
        generator=GeneratorTable(
            latent=128, embedding=128, projection=(256, 4), kind="residual", blocks=_blocks(256, 256, 256)
        ),
        discriminator=DiscriminatorTable(
            kind="residual",
            blocks=(
                *_blocks(128, 128),
                Block(128, resample=False),
                Block(128, resample=False, planar=True),
            ),
            pool="average", readout="sum",
        ),
        init="normal",
    ),
    # Tables 13 and 14. The last block is planar here too.
    "food101": Preset(
        group="p4", channels=3, classes=101,
        generator=GeneratorTable(
            latent=64, embedding=64, projection=(1024, 4), kind="residual", blocks=_blocks(512, 384, 256, 192)
        ),
        discriminator=DiscriminatorTable(
            kind="residual", blocks=(*_blocks(128, 256, 512), Block(784, planar=True)), pool="max"
        ),
    ),
}  # fmt: skip

# Birrell et al. 2022: both histology sets at 64 x 64.
for _name, _classes in (("anhir64", 5), ("lysto64", 3)):
    PRESETS[_name] = Preset(
        group="p4m", channels=3, classes=_classes,
        generator=GeneratorTable(
            latent=128, embedding=128, projection=(128, 4), kind="residual",
            blocks=(*_blocks(256, 128, 64, 32), Block(16, resample=False)),
        ),
        discriminator=DiscriminatorTable(kind="residual", blocks=_blocks(16, 32, 64, 128, 256), pool="max"),
    )  # fmt: skip

# Huang et al. 2024, at a third of the widths: those of CIFAR-10 and FFHQ-64 are at ``width=3``.
for _name, _group, _classes, _widths in (
    ("r3gan32", "p4", 10, (256, 256, 256, 256)),
    ("r3gan64", "p4m", 5, (256, 256, 256, 256, 128)),
):
    PRESETS[_name] = Preset(
        group=_group, channels=3, classes=_classes,
        generator=GeneratorTable(
            latent=64, embedding=64, projection=(_widths[0], 4), kind="bottleneck", blocks=_stages(*_widths)
        ),
        discriminator=DiscriminatorTable(
            kind="bottleneck", blocks=_stages(*reversed(_widths)), pool="blur", readout="basis"
        ),
        init="fixup",
    )  # fmt: skip

# Tables 15 and 16. They print the same widths for both; the text halves the G-CNN's, and so do we.
PAIR_PRESETS = {
    "maps": PairPreset(
        group="p4", channels=3,
        translator=TranslatorTable(
            down=(64, 128, 256, 512, 512, 512, 512, 512), up=(512, 512, 512, 512, 256, 128, 64)
        ),
        discriminator=PatchTable((*_blocks(64, 128, 256), Block(512, resample=False))),
    )
}  # fmt: skip

ALL_PRESETS = PRESETS | PAIR_PRESETS
