"""Sheets of images and the curves of a run, as PNG."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..files import write_atomically


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
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())


def write_gif(path: Path, frames: list[Image.Image]) -> None:
    """An endless animation, ten pictures per second, there and back."""
    buffer = io.BytesIO()
    there_and_back = [*frames, *frames[-2:0:-1]]
    there_and_back[0].save(buffer, format="GIF", save_all=True, append_images=there_and_back[1:], duration=100, loop=0)
    write_atomically(path, buffer.getvalue())


def write_curves(path: Path, records: list[dict], *, real_distance: float | None = None) -> None:
    """Draw the distance to the validation images and the losses over the generator's updates.

    Args:
        records: lines of metrics.jsonl: the keys that begin with "fid-" or "kid-" and the losses are drawn.
        real_distance: the distance of the training images to the evaluation images, drawn as a dotted line.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    distances = sorted({key for record in records for key in record if re.match(r"fid-|kid-\d", key)})
    for key in distances:
        left.plot(*_series(records, key), marker=".", label=key)
    if distances:
        left.set_yscale("log")
        if real_distance is not None and real_distance > 0:
            left.axhline(real_distance, linestyle=":", color="black", label="training images")
        left.legend()
    for key in ("loss_d", "loss_g", "penalty", "l1"):
        if any(key in record for record in records):
            right.plot(*_series(records, key), label=key, linewidth=0.8)
    if right.lines:
        right.legend()
    for axes, title in ((left, "distance to the validation images"), (right, "losses")):
        axes.set_title(title)
        axes.set_xlabel("generator updates")
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    pyplot.close(figure)
    write_atomically(path, buffer.getvalue())


def _series(records: list[dict], key: str) -> tuple[list, list]:
    points = [(record["iteration"], record[key]) for record in records if key in record]
    return [point[0] for point in points], [point[1] for point in points]
