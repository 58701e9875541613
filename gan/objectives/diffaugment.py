"""DiffAugment (Zhao et al. 2020a) by transforms that commute with p4m: colour, translation, cutout.

The random numbers of an image are uniform in [0, 1] and its transforms are laid out around the centre of the plane, so
that a rotated image is transformed as the image itself is, for random numbers that are rotated too: pairs of them
change places or become 1 - u, which leaves their distribution unchanged. No discriminator loses its invariance in
expectation.
"""

from __future__ import annotations

import torch

#: random numbers per image: brightness, saturation, contrast, and row and column of translation and of cutout
NUMBERS = 7
#: the largest translation and the side of the square that is cut out, of the side of the image
TRANSLATION, CUTOUT = 1 / 8, 1 / 2


def diffaugment(images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Images transformed, differentiably.

    Brightness changes by up to 0.5, saturation is multiplied by up to 2 and contrast by 0.5 to 1.5; the image moves by
    whole pixels, at most an eighth of its side, with zeros behind it; a square half as wide as the image becomes zero.

    Args:
        images: ``[B, C, N, N]`` in [-1, 1].
        numbers: float ``[B, NUMBERS]``, uniform in [0, 1].
    """
    if numbers.shape != (len(images), NUMBERS):
        raise ValueError(f"numbers: expected {(len(images), NUMBERS)}, got {tuple(numbers.shape)}")
    if images.shape[2] != images.shape[3]:
        raise ValueError(f"images: expected square ones, got {images.shape[2]} x {images.shape[3]}")
    images = _colour(images, *(numbers[:, i].to(images.dtype).view(-1, 1, 1, 1) for i in range(3)))
    return _cut_out(_translate(images, numbers[:, 3:5]), numbers[:, 5:7])


def _colour(images, brightness, saturation, contrast):
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = torch.lerp(grey, images, 2 * saturation)
    level = images.mean((1, 2, 3), keepdim=True)
    return torch.lerp(level, images, contrast + 0.5)


def _translate(images, numbers):
    """Pixel p becomes that at p - t, where both components of t are uniform among -most, ..., most."""
    batch, channels, size, _ = images.shape
    most = int(size * TRANSLATION + 0.5)
    # Rounding and clamping are odd functions: 1 - u moves the image the opposite way by exactly as much.
    shifts = ((numbers - 0.5) * (2 * most + 1)).round().clamp(-most, most).long()
    places = torch.arange(size, device=images.device) - shifts.unsqueeze(2)  # [B, 2, N]
    inside = (places >= 0) & (places < size)
    rows, columns = places.clamp(0, size - 1).unbind(1)
    first = torch.arange(batch, device=images.device).view(-1, 1, 1) * size**2
    sources = (first + rows.unsqueeze(2) * size + columns.unsqueeze(1)).flatten()
    pixels = images.permute(0, 2, 3, 1).reshape(batch * size**2, channels).index_select(0, sources)
    kept = inside[:, 0].unsqueeze(2) & inside[:, 1].unsqueeze(1)
    return pixels.view(batch, size, size, channels).permute(0, 3, 1, 2) * kept.unsqueeze(1)


def _cut_out(images, numbers):
    """Zeros where both coordinates are nearer than a quarter of the side to a centre that may be anywhere."""
    size = images.shape[-1]
    centres = (numbers - 0.5) * size
    places = torch.arange(size, device=images.device, dtype=centres.dtype) - (size - 1) / 2
    near = (places - centres.unsqueeze(2)).abs() < size * CUTOUT / 2  # [B, 2, N]
    cut = near[:, 0].unsqueeze(2) & near[:, 1].unsqueeze(1)
    return images * ~cut.unsqueeze(1)
