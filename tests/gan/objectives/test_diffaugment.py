"""DiffAugment: what it does, and that it commutes with the group."""

from __future__ import annotations

import pytest
import torch

from gan.common.symmetry import GroupAction
from gan.objectives import diffaugment
from gan.objectives.diffaugment import NUMBERS

NEUTRAL = 0.5  # of every random number but those of the cutout, which has no place where it does nothing


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def rotated(numbers, element):
    """The random numbers ``[B, NUMBERS]`` of images moved by an element of p4m: its matrix on both pairs of places."""
    places = numbers[:, 3:].unflatten(1, (2, 2))
    for _ in range(element % 4):  # (row, column) -> (-column, row) around the centre
        places = torch.stack([1 - places[..., 1], places[..., 0]], -1)
    if element >= 4:
        places = torch.stack([1 - places[..., 0], places[..., 1]], -1)
    return torch.cat([numbers[:, :3], places.flatten(1)], 1)


@pytest.mark.parametrize("size", [15, 16, 28])
@pytest.mark.parametrize("element", range(8))
def test_transforms_commute_with_the_group(size, element):
    images, numbers = uniform(64, 3, size, size, seed=1).double() * 2 - 1, uniform(64, NUMBERS)
    numbers[:8] = numbers[:8].round()  # the ends of the intervals
    move = GroupAction("p4m", size)
    elements = torch.full((64,), element)
    found = diffaugment(move(images, elements), rotated(numbers, element))
    expected = move(diffaugment(images, numbers), elements)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)  # contrast's mean is summed in another order
    assert torch.equal(found == 0, expected == 0)
    if element:
        assert not torch.allclose(diffaugment(move(images, elements), numbers), expected)


def test_translations_and_cutouts_of_an_image_of_ones():
    numbers = torch.full((5, NUMBERS), NEUTRAL)
    numbers[:, 5:] = 0.0  # cut out around the first corner: 4 x 4 of 16 x 16 pixels
    numbers[1, 3] = 1.0  # two rows down
    numbers[2, 4] = 0.0  # two columns to the left
    numbers[3, 5:] = 0.5  # cut out in the middle
    found = diffaugment(torch.ones(5, 1, 16, 16), numbers)[:, 0]
    expected = torch.ones(5, 16, 16)
    expected[:, :4, :4] = 0
    expected[1, :2] = 0
    expected[2, :, -2:] = 0
    expected[3] = 1
    expected[3, 4:12, 4:12] = 0
    assert torch.equal(found, expected)


def test_colours_are_their_formulas():
    images, numbers = uniform(6, 3, 8, 8).double(), uniform(6, NUMBERS).double()
    numbers[:, 3:5] = NEUTRAL
    numbers[:, 5:] = 0.0  # cuts out the first 2 x 2 pixels
    for image, (brightness, saturation, contrast, *_), found in zip(
        images, numbers.tolist(), diffaugment(images, numbers), strict=True
    ):
        bright = image + brightness - 0.5
        grey = sum(bright) / 3
        saturated = (bright - grey) * 2 * saturation + grey
        level = saturated.sum() / saturated.numel()
        expected = (saturated - level) * (contrast + 0.5) + level
        expected[:, :2, :2] = 0
        torch.testing.assert_close(found, expected)


def test_every_translation_is_as_likely():
    numbers = torch.full((9000, NUMBERS), NEUTRAL)
    numbers[:, 3:] = uniform(9000, 4)
    numbers[:, 5:] = 0.0
    point = torch.zeros(9000, 1, 32, 32)
    point[:, :, 20, 20] = 1.0
    places = diffaugment(point, numbers).flatten(1).argmax(1)
    rows, columns = (places // 32).bincount(minlength=25)[16:25], (places % 32).bincount(minlength=25)[16:25]
    for counts in (rows, columns):
        assert counts.sum() == 9000 and ((counts - 1000.0).abs() < 150).all()


def test_the_second_derivative_goes_through():
    images, numbers = uniform(3, 2, 6, 6, seed=2).double().requires_grad_(), uniform(3, NUMBERS)
    assert torch.autograd.gradcheck(lambda x: diffaugment(x, numbers).tanh(), images)
    assert torch.autograd.gradgradcheck(lambda x: diffaugment(x, numbers).tanh(), images)


def test_arguments_that_do_not_fit():
    with pytest.raises(ValueError, match=r"numbers: expected \(2, 7\), got \(2, 3\)"):
        diffaugment(torch.ones(2, 1, 8, 8), torch.ones(2, 3))
    with pytest.raises(ValueError, match="images: expected square ones, got 8 x 9"):
        diffaugment(torch.ones(2, 1, 8, 9), torch.ones(2, NUMBERS))
