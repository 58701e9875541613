"""The networks of gan: shapes, sizes, symmetry, spectral norm, compilation."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gcnn_kernels as gk
from gan.common.symmetry import GroupAction, is_subgroup
from gan.networks import (
    PRESETS,
    build_discriminator,
    build_generator,
    build_patch_discriminator,
    build_translator,
    parameter_counts,
)
from gan.networks.blocks import ResBlockD, ResBlockG
from gan.networks.sizes import ablation_table
from gan.networks.spectral import SpectralNorm

CELLS = [(name, group) for name, preset in PRESETS.items() for group in ("p1", preset.group)]
SHAPES = {
    "digits": (1, 16, 16), "rotmnist": (1, 28, 28), "anhir": (3, 128, 128), "lysto": (3, 256, 256),
    "cifar10": (3, 32, 32), "food101": (3, 64, 64), "anhir64": (3, 64, 64), "lysto64": (3, 64, 64),
    "r3gan32": (3, 32, 32), "r3gan64": (3, 64, 64),
}  # fmt: skip


def small(build, preset, group, **options):
    torch.manual_seed(0)
    return build(preset, group, **{"width": 0.25 if preset == "digits" else 0.06} | options)


def noise(generator, batch=2):
    random = torch.Generator().manual_seed(1)
    z = torch.randn(batch, generator.latent_dim, generator=random)
    return z, torch.randint(generator.embedding.num_embeddings, (batch,), generator=random)


def pictures(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(2)) * 2 - 1


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize(("preset", "group"), CELLS)
def test_shapes_and_gradients(preset, group):
    generator, discriminator = small(build_generator, preset, group), small(build_discriminator, preset, group)
    assert generator.image_shape == SHAPES[preset]
    assert (generator.group, discriminator.group) == (group, group)
    z, labels = noise(generator)
    images = generator(z, labels)
    assert images.shape == (2, *SHAPES[preset])
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.abs().max() <= 1
    assert torch.equal(generator.eval()(z, embedding=generator.embed(labels)), generator(z, labels))
    logits = discriminator(images, labels)
    assert logits.shape == (2,)
    logits.square().sum().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("group", ["p1", "p4"])
def test_pix2pix_networks(group):
    translator, discriminator = small(build_translator, "maps", group), small(build_patch_discriminator, "maps", group)
    assert translator.image_shape == (3, 256, 256)
    source = pictures(1, 3, 256, 256)
    images = translator(source)
    assert images.shape == source.shape
    assert images.abs().max() <= 1
    logits = discriminator(source, images)
    assert logits.shape == (1, 32, 32)
    logits.square().sum().backward()
    for network in (translator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
    if group == "p4":
        rotated = translator.eval()(source.rot90(1, (2, 3)))
        assert distance(rotated, translator(source).rot90(1, (2, 3))) < 1e-5


# Feature maps out of each block, as the papers' tables list them.
WIDTHS = {
    ("rotmnist", "p1"): ([512, 256, 128], [128, 256, 512]),
    ("rotmnist", "p4"): ([256, 128, 64], [64, 128, 256]),
    ("anhir", "p1"): ([512, 256, 128, 64, 32], [32, 64, 128, 256, 512]),
    ("anhir", "p4m"): ([181, 90, 45, 22, 11], [11, 22, 45, 90, 181]),
    ("lysto", "p1"): ([512, 256, 128, 64, 32, 16], [16, 32, 64, 128, 256, 512]),
    ("lysto", "p4m"): ([181, 90, 45, 22, 11, 5], [5, 11, 22, 45, 90, 181]),
    ("cifar10", "p1"): ([256, 256, 256], [128, 128, 128, 128]),
    ("cifar10", "p4"): ([128, 128, 128], [64, 64, 64, 128]),
    ("food101", "p1"): ([512, 384, 256, 192], [128, 256, 512, 784]),
    ("food101", "p4"): ([256, 192, 128, 96], [64, 128, 256, 784]),
    ("anhir64", "p4m"): ([90, 45, 22, 11, 5], [5, 11, 22, 45, 90]),
}


@pytest.mark.parametrize(("preset", "group"), WIDTHS)
def test_widths_are_the_papers(preset, group):
    with torch.device("meta"):
        generator, discriminator = build_generator(preset, group), build_discriminator(preset, group)
    blocks = [generator.blocks, [block for stage in discriminator.stages for block in stage[:-1]]]
    found = tuple([(b.conv if hasattr(b, "conv") else b.conv2).out_channels for b in part] for part in blocks)
    assert found == WIDTHS[preset, group]


def test_parameter_counts_by_hand():
    norm = 2 * (128 + 1)  # of a map: scale and shift, linear in the condition of length 128, with biases
    projection, embedding = 128 * 6272 + 6272, 10 * 64
    cnn = 9 * (128 * 512 + 512 * 256 + 256 * 128 + 128) + 512 + norm * (256 + 128)
    gcnn = 9 * (128 * 256 + 4 * (256 * 128 + 128 * 64 + 64)) + 256 + norm * (128 + 64)
    d_cnn = 9 * (128 + 128 * 256 + 256 * 512) + (128 + 256 + 512) + 11 * 512 + 1
    d_gcnn = 9 * (64 + 4 * (64 * 128 + 128 * 256)) + (64 + 128 + 256) + 11 * 256 + 1
    assert parameter_counts("rotmnist", "p1", "p1") == (projection + embedding + cnn, d_cnn)
    assert parameter_counts("rotmnist", "p4", "p4") == (projection + embedding + gcnn, d_gcnn)

    def residual(cin, cout, order, lift):  # one block of the anhir discriminator
        first = cin * cout * (1 if lift else order)
        return 9 * first + 9 * cout * cout * order + first + 3 * cout

    widths = [3, 11, 22, 45, 90, 181]
    blocks = sum(residual(a, b, 8, a == 3) for a, b in itertools.pairwise(widths))
    assert parameter_counts("anhir", "p1", "p4m")[1] == blocks + 6 * 181 + 1


def test_documented_counts_are_current():
    documented = (Path(__file__).parents[3] / "docs" / "networks.md").read_text()
    assert ablation_table() in documented


def test_width_is_at_least_one():
    generator = build_generator("rotmnist", "p4", width=1e-6)
    assert generator(torch.randn(2, 64), torch.tensor([0, 1])).shape == (2, 1, 28, 28)
    assert generator.blocks[0].conv.weight.shape == (1, 1, 3, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "mnist"}, "preset: expected one of digits"),
        ({"width": 0.0}, "width: expected a positive factor"),
        ({"symmetry": "broken"}, "symmetry: expected one of incomplete, full, got 'broken'"),
        ({"classes": 0}, "classes: expected at least 1"),
        ({"image_channels": 0}, "image_channels: expected at least 1"),
        ({"group": "q4"}, "group must be"),
    ],
)
def test_bad_arguments(options, message):
    arguments = {"preset": "digits", "group": "p4"} | options
    with pytest.raises(ValueError, match=message):
        build_generator(arguments.pop("preset"), arguments.pop("group"), **arguments)


def test_arguments_of_the_generator():
    generator = small(build_generator, "digits", "p4")
    z, labels = noise(generator)
    for arguments in ({}, {"labels": labels, "embedding": generator.embed(labels)}):
        with pytest.raises(ValueError, match="labels, embedding: expected one of the two"):
            generator(z, **arguments)
    with pytest.raises(ValueError, match="elements: only for symmetry 'full', and this generator's is 'incomplete'"):
        generator(z, labels, elements=labels)


@pytest.mark.parametrize("size", [4, 7])
def test_group_action_is_rot90_then_flip(size):
    images = pictures(8, 3, size, size)
    moved = GroupAction("p4m", size)(images, torch.arange(8))
    for element in range(8):
        expected = images[element].rot90(element % 4, (1, 2))
        expected = expected.flip(1) if element >= 4 else expected
        assert torch.equal(moved[element], expected)


def test_group_action_of_a_finer_group():
    """c8: the even elements are exact quarter turns of a disk, the odd ones interpolate."""
    size = 7
    row, column = torch.meshgrid(torch.arange(size) - 3.0, torch.arange(size) - 3.0, indexing="ij")
    disk = (row**2 + column**2) <= (size / 2) ** 2
    images = pictures(8, 2, size, size)
    moved = GroupAction("c8", size)(images, torch.arange(8))
    for element in range(0, 8, 2):
        torch.testing.assert_close(moved[element], (images[element] * disk).rot90(element // 2, (1, 2)))
    # R turns the gradient of a ramp from down to down and right; bilinear interpolation is exact on ramps.
    ramp = row.expand(1, 1, size, size)
    rotated = GroupAction("c8", size)(ramp, torch.tensor([1]))[0, 0]
    inner = (row.abs() + column.abs()) <= 2
    torch.testing.assert_close(rotated[inner], ((row + column) / 2**0.5)[inner])


def test_is_subgroup():
    chain = ["p1", "c2", "p4", "c8"]
    assert all(is_subgroup(a, b) == (i <= j) for i, a in enumerate(chain) for j, b in enumerate(chain))
    assert is_subgroup("p4", "p4m")
    assert not is_subgroup("p4m", "c8")


@pytest.mark.parametrize(
    ("preset", "group"),
    [
        ("digits", "p4"),
        ("rotmnist", "p4"),
        ("anhir64", "p4m"),
        ("lysto", "p4m"),
        ("rotmnist", "c8"),
        ("r3gan64", "p4m"),
    ],
)
def test_discriminator_is_invariant(preset, group):
    discriminator = small(build_discriminator, preset, group, width=0.2)
    channels, size = SHAPES[preset][0], min(SHAPES[preset][1], 64)
    images, labels = pictures(2, channels, size, size), torch.tensor([0, 1])
    discriminator(images, labels)  # moves the batch norm's statistics from their start
    discriminator.eval()
    action = GroupAction(discriminator.invariance, size)
    assert discriminator.invariant
    assert action.point_group.order == (8 if group == "p4m" else 4)
    logits, features = discriminator(images, labels), discriminator.features(images)
    for element in range(1, action.point_group.order):
        moved = action(images, torch.full((2,), element))
        assert distance(discriminator(moved, labels), logits) < 1e-5
        assert distance(discriminator.features(moved), features) < 1e-5


@pytest.mark.parametrize(("preset", "group"), [("rotmnist", "p1"), ("cifar10", "p4"), ("food101", "p4")])
def test_discriminator_that_sees_orientation(preset, group):
    discriminator = small(build_discriminator, preset, group, width=0.2).eval()
    images, labels = pictures(2, *SHAPES[preset]), torch.tensor([0, 1])
    assert not discriminator.invariant
    assert distance(discriminator(images.rot90(1, (2, 3)), labels), discriminator(images, labels)) > 1e-3


@pytest.mark.parametrize(
    ("preset", "group", "on_grid"),
    [("rotmnist", "p4", "p4"), ("anhir64", "p4m", "p4m"), ("rotmnist", "c8", "p4"), ("r3gan32", "p4", "p4")],
)
def test_fully_symmetric_generator(preset, group, on_grid):
    """G(z, g e) = g G(z, e) for the elements g that permute the pixels."""
    generator = small(build_generator, preset, group, symmetry="full", width=0.1).eval()
    z, labels = noise(generator, batch=1)
    point, part = gk.point_group(group), gk.point_group(on_grid)
    action, step = GroupAction(on_grid, generator.image_shape[1]), point.order // part.order
    start = torch.tensor([1])
    images = generator(z, labels, elements=start)
    for element in range(part.order):
        moved = torch.tensor([point.cayley[element * step, start.item()]])
        assert distance(generator(z, labels, elements=moved), action(images, torch.tensor([element]))) < 1e-5
    torch.manual_seed(3)
    drawn = generator(z.expand(64, -1), labels.expand(64))
    assert len({image.flatten()[:50].sum().item() for image in drawn}) > 1, "elements are not drawn"


@pytest.mark.parametrize(("symmetry", "invariant"), [("full", True), ("incomplete", False)])
def test_law_of_the_images(symmetry, invariant):
    """Two-sample test of images against other images rotated: equal means, in units of their standard error?"""
    generator = small(build_generator, "digits", "p4", symmetry=symmetry).eval()
    with torch.no_grad():
        generator.projection.bias.normal_()  # zero at the start, where the projected noise is almost isotropic
        a, b = (generator(torch.randn(1000, 32), torch.zeros(1000, dtype=torch.long)) for _ in range(2))
    b = b.rot90(1, (2, 3))
    deviation = (a.mean(0) - b.mean(0)).square() / ((a.var(0) + b.var(0)) / 1000)
    assert (deviation.mean() < 2) == invariant  # 1 expected under equality, over 256 correlated pixels


def test_residual_blocks_are_figure_13():
    """The blocks for planar maps, written down from the figure in torch's functions."""
    torch.manual_seed(0)
    x, condition = torch.randn(2, 3, 6, 6), torch.randn(2, 5)

    def conv(layer, x):
        weight = layer.weight if layer.weight.dim() == 4 else layer.weight[:, :, 0]
        return F.conv2d(x, weight, layer.bias, padding=weight.shape[-1] // 2)

    block = ResBlockG(3, 4, "p1", lift=True, resample=True, condition=5)
    up = lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3)  # noqa: E731

    def norm(layer, x):
        scale, shift = layer.scale(condition)[..., None, None], layer.shift(condition)[..., None, None]
        return F.batch_norm(x, None, None, training=True) * (1 + scale) + shift

    y = conv(block.conv1, up(norm(block.norm1, x).relu()))
    y = conv(block.conv2, norm(block.norm2, y).relu()) + conv(block.skip, up(x))
    torch.testing.assert_close(block(x, condition)[:, :, 0], y, rtol=1e-4, atol=1e-5)

    for pool, function in (("max", F.max_pool2d), ("average", F.avg_pool2d)):
        block = ResBlockD(3, 4, "p1", lift=True, resample=True, pool=pool)
        shortcut = block.skip[0 if pool == "max" else 1]
        y = conv(block.conv2, conv(block.conv1, x.relu()).relu())
        expected = function(y, 2) + function(conv(shortcut, x), 2)
        torch.testing.assert_close(block(x)[:, :, 0], expected, rtol=1e-4, atol=1e-5)


def test_spectral_norm_covers_all_but_the_class_embedding():
    generator, discriminator = small(build_generator, "anhir64", "p4m"), small(build_discriminator, "lysto", "p4m")
    for network in (generator, discriminator):
        for name, module in network.named_modules():
            weight = getattr(module, "weight", None)
            if isinstance(weight, torch.Tensor) and weight.dim() > 1:
                assert nn.utils.parametrize.is_parametrized(module, "weight") == (module is not generator.embedding), (
                    name
                )


def test_spectral_norm_values():
    torch.manual_seed(0)
    layer = gk.nn.GroupConv2d(3, 5, 3, padding=1, group="p4").double()
    original = layer.weight.detach().clone()
    norm = SpectralNorm(layer.weight).double()
    start = norm.u.clone()
    matrix = original.flatten(1)
    v = F.normalize(matrix.T @ start, dim=0)
    u = F.normalize(matrix @ v, dim=0)
    torch.testing.assert_close(norm(original), original / (u @ matrix @ v))
    torch.testing.assert_close(norm.u, u)  # one iteration
    norm.eval()
    norm(original)
    torch.testing.assert_close(norm.u, u)
    norm.train()
    for _ in range(200):
        out = norm(original)
    torch.testing.assert_close(torch.linalg.matrix_norm(out.flatten(1), 2), torch.ones((), dtype=torch.double))
    # All poses of the bank have the same singular values, so one estimate serves the expanded filter.
    poses = gk.expand_filters(original, "p4").unflatten(0, (5, 4))
    for pose in range(4):
        torch.testing.assert_close(torch.linalg.svdvals(poses[:, pose].flatten(1)), torch.linalg.svdvals(matrix))
    # The gradient flows through the singular value: the result does not change with the scale of the weight.
    leaf = original.clone().requires_grad_()
    (norm(leaf) ** 3).sum().backward()
    assert abs((leaf.grad * leaf).sum()) < 1e-9


def test_spectral_norm_keeps_fp32_under_autocast():
    discriminator = small(build_discriminator, "rotmnist", "p4")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert discriminator.stages[0][0].conv.weight.dtype == torch.float32
        assert discriminator(pictures(2, 1, 28, 28), torch.tensor([0, 1])).isfinite().all()


def test_state_dict_carries_everything():
    generator = small(build_generator, "rotmnist", "p4")
    z, labels = noise(generator)
    twin = copy.deepcopy(generator)
    for _ in range(3):
        generator(z, labels)
    twin.load_state_dict(generator.state_dict())
    assert torch.equal(twin(z, labels), generator(z, labels))
    assert torch.equal(twin.eval()(z, labels), generator.eval()(z, labels))


@pytest.mark.slow
def test_generator_compiles_whole():
    generator = small(build_generator, "digits", "p4").eval()
    z, labels = noise(generator)
    with torch.no_grad():
        images = torch.compile(generator, fullgraph=True)(z, labels)
        torch.testing.assert_close(images, generator(z, labels))


@pytest.mark.parametrize("symmetry", ["incomplete", "full"])
def test_generator_traces_whole_with_its_gradient(symmetry):
    generator = small(build_generator, "digits", "p4", symmetry=symmetry)
    twin = copy.deepcopy(generator)
    z, labels = noise(generator)
    elements = torch.tensor([1, 2]) if symmetry == "full" else None
    images = torch.compile(twin, fullgraph=True, backend="aot_eager")(z, labels, elements=elements)
    _same_step(images, generator(z, labels, elements=elements), twin, generator)


def test_discriminator_traces_whole_with_its_gradient():
    discriminator = small(build_discriminator, "digits", "p4")
    twin = copy.deepcopy(discriminator)
    images, labels = pictures(2, 1, 16, 16), torch.tensor([0, 1])
    logits = torch.compile(twin, fullgraph=True, backend="aot_eager")(images, labels)
    _same_step(logits, discriminator(images, labels), twin, discriminator)


def _same_step(out, expected, network, twin):
    torch.testing.assert_close(out, expected)
    (out**2).sum().backward()
    (expected**2).sum().backward()
    for parameter, other in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value)
