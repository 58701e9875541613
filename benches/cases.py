"""The cases: every convolution, norm and maximum pooling of the networks of Dey et al. 2021, read off the networks.

Each network is run once on tensors without data; hooks note what its layers see. So nothing here repeats the tables,
and the layer of the plain CNN that corresponds to a layer of the G-CNN is the one at the same place in its network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cache
from unittest.mock import patch

import torch

import gcnn_kernels as gk
from gan.networks import PRESETS, build, build_discriminator, build_generator
from gcnn_kernels.functional import same_padding

# Data set -> batch of the paper (Dey et al. 2021, appendix).
BATCHES = {"rotmnist": 64, "anhir": 32, "lysto": 16, "cifar10": 64, "food101": 64}

# A batch that a small machine can hold: halved from the paper's while the planes have more than MAX_PIXELS in all, and
# then while the filter stack's convolution takes more than MAX_MULTIPLICATIONS. Not below MIN_PIXELS: there the
# convolution no longer outweighs what is done to the filters.
MAX_PIXELS, MAX_MULTIPLICATIONS, MIN_PIXELS = 4096, 4e9, 1024
MAX_MAP_PIXELS = 16384  # for norms and pools
FINER_GROUPS = ("c8", "d8")
STEP_BATCHES = {"rotmnist": 8, "anhir": 2, "food101": 2}


@dataclass(frozen=True)
class ConvCase:
    """One convolution: a group convolution, a lifting one (``in_slots`` 1), or an ordinary one (group "p1").

    Attributes:
        name: as in "food101-G-block2-conv1-p4".
        batch: what is timed.
        activation, statistics: what the network asks of the kernel besides (``nn.conv_batch_norm``); it is not timed.
        shared_by: names of the other layers of the same shape, with or without a bias.
        plain: the convolution at the same place in the plain CNN.
    """

    name: str
    group: str
    in_slots: int
    in_channels: int
    out_channels: int
    kernel: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    bias: bool
    batch: int
    activation: str | None = field(default=None, compare=False)
    statistics: bool = field(default=False, compare=False)
    shared_by: tuple[str, ...] = field(default=(), compare=False)
    plain: ConvCase | None = field(default=None, compare=False)

    @property
    def order(self) -> int:
        return gk.point_group(self.group).order

    @property
    def kind(self) -> str:
        return "lifting" if self.in_slots == 1 else "group"

    @property
    def in_discriminator(self) -> bool:
        """Whether a layer of this shape is differentiated twice, by R1."""
        return any("-D-" in name for name in (self.name, *self.shared_by))

    @property
    def stack_multiplications(self) -> int:
        """Of one pass with the filter stack, whatever the algorithm that is timed."""
        pixels = self.batch * self.out_size[0] * self.out_size[1]
        return pixels * self.out_channels * self.order * self.in_channels * self.in_slots * self.kernel**2

    def __str__(self):
        return (
            f"{self.batch}x{self.in_size[0]}x{self.in_size[1]}, {self.in_channels}->{self.out_channels}, k{self.kernel}"
        )


@dataclass(frozen=True)
class MapCase:
    """A layer of maps ``[batch, channels, order, *size]``.

    Attributes:
        kind: "norm", a batch norm with ReLU; "pool", a maximum over the group; "spatial pool", one over 2 x 2 pixels.
    """

    name: str
    kind: str
    group: str
    channels: int
    size: tuple[int, int]
    batch: int
    conditional: bool = False
    shared_by: tuple[str, ...] = field(default=(), compare=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, gk.point_group(self.group).order, *self.size)

    def __str__(self):
        return f"{self.batch}x{self.size[0]}x{self.size[1]}, {self.channels}"


@dataclass(frozen=True)
class LayerCase:
    """A layer as networks other than the paper's have it: a grouped or transposed convolution, or a linear layer.

    Attributes:
        kind: "grouped", "transposed" or "linear".
        size: of the plane that comes in; of a linear layer, how many tokens a sample has.
        groups: equal to ``in_channels`` where the convolution is depthwise.
    """

    name: str
    kind: str
    group: str
    in_channels: int
    out_channels: int
    size: tuple[int, ...]
    batch: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    output_padding: int = 0
    groups: int = 1

    @property
    def weight_shape(self) -> tuple[int, ...]:
        order = gk.point_group(self.group).order
        if self.kind == "linear":
            return (self.out_channels, self.in_channels, order)
        first, second = self.out_channels, self.in_channels
        if self.kind == "transposed":
            first, second = second, first
        return (first, second // self.groups, order, self.kernel, self.kernel)

    def __str__(self):
        size = "x".join(str(n) for n in (self.batch, *self.size))
        rest = f", k{self.kernel}" if self.kind != "linear" else ""
        rest += f", stride {self.stride}" if self.stride > 1 else ""
        return (
            f"{size}, {self.in_channels}->{self.out_channels}"
            + rest
            + (f", {self.groups} groups" if self.groups > 1 else "")
        )


@dataclass(frozen=True)
class StepCase:
    """One update of one player, "D" with R1 or "G", as ``gan.train`` makes it."""

    dataset: str
    player: str
    group: str
    batch: int

    kind = "step"

    @property
    def name(self) -> str:
        return f"{self.dataset}-{self.player}-step-{self.group}"

    def __str__(self):
        return f"batch {self.batch}"


def step_cases() -> tuple[StepCase, ...]:
    return tuple(
        StepCase(dataset, player, PRESETS[dataset].group, batch)
        for dataset, batch in STEP_BATCHES.items()
        for player in "DG"
    )


@cache
def conv_cases() -> tuple[ConvCase, ...]:
    """The lifting and group convolutions of all data sets, equal shapes once; not those of plain maps."""
    return _distinct([case for dataset in BATCHES for case in convolutions(dataset, PRESETS[dataset].group)
                      if case.group != "p1"])  # fmt: skip


@cache
def finer_cases() -> tuple[ConvCase, ...]:
    """Those of the rotmnist networks over groups beyond the grid (Birrell et al. 2022), 5x5 filters."""
    return _distinct([case for group in FINER_GROUPS for case in convolutions("rotmnist", group) if case.group != "p1"])


def convolutions(dataset: str, group: str) -> list[ConvCase]:
    """All convolutions of a data set's networks, also where several have one shape; those of planar blocks over p1."""
    cases = []
    plain_layers = _layers(dataset, "p1")
    for path, layer in _layers(dataset, group).items():
        if isinstance(layer.module, _CONVOLUTIONS):
            case = _conv_case(f"{dataset}-{path}", layer)
            case = replace(case, batch=_batch(case, BATCHES[dataset]))
            plain = _conv_case(f"{dataset}-{path}", plain_layers[path])
            cases.append(replace(case, plain=replace(plain, batch=case.batch)))
    return cases


@cache
def map_cases() -> tuple[MapCase, ...]:
    """The batch norms and maxima of all data sets, equal shapes once; not those of plain maps."""
    cases = [case for dataset in BATCHES for case in maps(dataset, PRESETS[dataset].group)]
    return _distinct([case for case in cases if case.group != "p1"])


def maps(dataset: str, group: str) -> list[MapCase]:
    """All batch norms and maxima of a data set's networks; those of plain maps over p1."""
    cases = []
    for path, layer in _layers(dataset, group).items():
        if isinstance(layer.module, (*_NORMS, *_POOLS)):
            kind = "norm" if isinstance(layer.module, _NORMS) else _POOLS[type(layer.module)]
            _, channels, *slots, height, width = layer.in_shape
            conditional = isinstance(layer.module, gk.nn.ConditionalGroupBatchNorm2d)
            batch = _halved(BATCHES[dataset], height * width, MAX_MAP_PIXELS)
            of = group if slots and slots[0] > 1 else "p1"
            cases.append(MapCase(f"{dataset}-{path}-{of}", kind, of, channels, (height, width), batch, conditional))
    return cases


@cache
def layer_cases() -> tuple[LayerCase, ...]:
    """Grouped, depthwise, transposed and linear layers of the kinds of networks that they are named after."""
    cases = []
    for group, width in (("p4m", 1), ("p4", 1.5), ("c8", 1)):  # about as many parameters
        c = round(32 * width)
        double = {"kernel": 4, "stride": 2, "padding": 1}
        far = {"kernel": 3, "stride": 2, "padding": 1, "output_padding": 1}
        cases += [
            LayerCase("resnext-block", "grouped", group, 2 * c, 2 * c, (16, 16), 4, 3, 1, 1, groups=4),
            LayerCase("resnext-narrow-block", "grouped", group, 2 * c, 2 * c, (16, 16), 4, 3, 1, 1, groups=16),
            LayerCase("mobilenet-block", "grouped", group, c, c, (32, 32), 4, 3, 1, 1, groups=c),
            LayerCase("mobilenet-down", "grouped", group, 2 * c, 2 * c, (32, 32), 4, 3, 2, 1, groups=2 * c),
            LayerCase("convnext-block", "grouped", group, c, c, (28, 28), 2, 7, 1, 3, groups=c),
            LayerCase("dcgan-up", "transposed", group, 2 * c, c, (8, 8), 8, **double),
            LayerCase("dcgan-last-up", "transposed", group, c // 2, c // 4, (32, 32), 4, **double),
            LayerCase("unet-up", "transposed", group, 2 * c, c, (16, 16), 4, 2, 2),
            LayerCase("autoencoder-up", "transposed", group, 2 * c, c, (16, 16), 4, **far),
            LayerCase("attention-qkv", "linear", group, 2 * c, 6 * c, (256,), 8),
            LayerCase("mixer", "linear", group, c, 4 * c, (256,), 8),
            LayerCase("narrow-mixer", "linear", group, c // 2, c // 2, (256,), 8),
            LayerCase("head", "linear", group, 4 * c, 10, (1,), 64),
        ]
    return tuple(replace(case, name=f"{case.name}-{case.group}") for case in cases)


_CONVOLUTIONS = (gk.nn.LiftingConv2d, gk.nn.GroupConv2d)
_NORMS = (gk.nn.GroupBatchNorm2d, gk.nn.ConditionalGroupBatchNorm2d)
_POOLS = {gk.nn.GroupMaxPool: "pool", gk.nn.SpatialMaxPool2d: "spatial pool"}


@dataclass(frozen=True)
class _Layer:
    """What one run of a network shows of a layer."""

    module: torch.nn.Module
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    statistics: bool


def _layers(dataset, group) -> dict[str, _Layer]:
    """Path such as "G-block2-conv1" -> layer, both players, in the order of the run."""
    layers, summed = {}, set()

    def note(path):
        def hook(module, inputs, output):
            layers[path] = _Layer(module, tuple(inputs[0].shape), tuple(output.shape), module in summed)

        return hook

    def conv_batch_norm(conv, norm, x, *condition):
        summed.add(conv)
        return norm(conv(x), *condition)

    # Spectral norm is left out: it changes no shape, and its autocast does not know the meta device.
    skipped, noted = patch.object(build, "spectral_normalize"), patch.object(gk.nn, "conv_batch_norm", conv_batch_norm)
    with torch.device("meta"), skipped, noted:
        generator, discriminator = build_generator(dataset, group), build_discriminator(dataset, group)
        for player, network in (("G", generator), ("D", discriminator)):
            for path, module in network.named_modules():
                if isinstance(module, (*_CONVOLUTIONS, *_NORMS, *_POOLS)):
                    module.register_forward_hook(note(f"{player}-{_readable(path, module)}"))
        labels = torch.zeros(2, dtype=torch.long)
        discriminator(generator(torch.empty(2, generator.latent_dim), labels), labels)
    return layers


def _readable(path, module):
    """ "blocks.1.conv2" -> "block2-conv2", "stages.0.1.skip.0" -> "block2-skip"."""
    if isinstance(module, gk.nn.GroupMaxPool):
        return "planar-pool" if path.startswith("stages.1") else "pool"
    path = re.sub(r"^(?:blocks|stages\.0)\.(\d+)", lambda match: f"block{int(match[1]) + 1}", path)
    return re.sub(r"\.\d+$", "", path).replace(".", "-")


def _conv_case(path, layer):
    module = layer.module
    return ConvCase(
        f"{path}-{module.group}", module.group,
        layer.in_shape[2] if len(layer.in_shape) == 5 else 1,
        module.in_channels, module.out_channels, module.kernel_size, layer.in_shape[-2:], layer.out_shape[-2:],
        module.stride, _numeric_padding(module), module.bias is not None, batch=1,
        activation=module.activation, statistics=layer.statistics,
    )  # fmt: skip


def _numeric_padding(module):
    if module.padding == "same":  # stride 1 and odd filters only, in these networks
        return same_padding(module.kernel_size, module.dilation)[0]
    return (0, 0) if module.padding == "valid" else module.padding


def at_paper_batch(case: ConvCase | MapCase | LayerCase | StepCase) -> ConvCase | MapCase | LayerCase | StepCase:
    """The case, and the layer of the plain CNN, as the paper trains it; of other networks' layers with more samples."""
    if isinstance(case, LayerCase):
        return replace(case, batch=16 * case.batch)
    batch = BATCHES[case.name.split("-")[0]]
    plain = getattr(case, "plain", None)
    return replace(case, batch=batch, **({"plain": replace(plain, batch=batch)} if plain else {}))


def _batch(case, paper_batch):
    pixels = case.out_size[0] * case.out_size[1]
    batch = _halved(paper_batch, pixels, MAX_PIXELS)
    while batch > 1 and batch * case.stack_multiplications > MAX_MULTIPLICATIONS and batch * pixels > MIN_PIXELS:
        batch //= 2
    return batch


def _halved(batch, pixels, most):
    while batch > 2 and batch * pixels > most:
        batch //= 2
    return batch


def _distinct(cases):
    found = {}
    for case in cases:
        key = replace(case, name="", batch=1, **({"bias": False} if isinstance(case, ConvCase) else {}))
        found[key] = replace(found[key], shared_by=(*found[key].shared_by, case.name)) if key in found else case
    return tuple(found.values())
