"""Sheets of images as PNG, animations as GIF."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .files import write_atomically


def sheet(images: torch.Tensor, columns: int, border: int = 1) -> Image.Image:
    """Images uint8 ``[N, H, W, C]`` in rows of ``columns``, with a border between them."""
    count, height, width, channels = images.shape
    rows = math.ceil(count / columns)
    canvas = np.full((rows * (height + border) + border, columns * (width + border) + border, channels), 255, np.uint8)
    for index, image in enumerate(images.cpu().numpy()):
        top = border + index // columns * (height + border)
        left = border + index % columns * (width + border)
        canvas[top : top + height, left : left + width] = image
    return Image.fromarray(canvas.squeeze(2) if channels == 1 else canvas)


def enlarged(picture: Image.Image, least: int = 600) -> Image.Image:
    """The picture with every pixel a square, so that its larger side has at least about ``least`` pixels."""
    factor = max(1, round(least / max(picture.size)))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def write_picture(path: Path, picture: Image.Image) -> None:
    """A PNG, in a folder that is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())


def write_gif(path: Path, frames: list[Image.Image]) -> None:
    """An endless animation, ten pictures per second, there and back."""
    buffer = io.BytesIO()
    there_and_back = [*frames, *frames[-2:0:-1]]
    there_and_back[0].save(buffer, format="GIF", save_all=True, append_images=there_and_back[1:], duration=100, loop=0)
    write_atomically(path, buffer.getvalue())
