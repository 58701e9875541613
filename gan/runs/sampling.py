"""What a run's generator makes: images of chosen noise and classes, interpolations, translations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image

from .. import data
from ..common.noise import draw_noise
from ..common.pictures import enlarged, sheet, write_gif, write_picture
from ..common.randomness import random_generator
from ..data import to_tensor, to_uint8
from ..networks import Translator
from .generator import TrainedGenerator


def sample_images(
    trained: TrainedGenerator,
    seeds: Sequence[int],
    classes: Sequence[int] | None = None,
    *,
    truncation: float = 1.0,
    interpolate: str | None = None,
    steps: int = 8,
) -> torch.Tensor:
    """Images uint8 ``[rows, columns, H, W, C]`` of a generator: a row per class, a column per seed.

    Args:
        seeds: of the noise vectors.
        classes: the first ten unless given.
        truncation: standard deviation of the noise.
        interpolate: "z": columns go from seed to seed along the sphere; "class": from class to class, a row per seed.
        steps: images from one end of an interpolation to the next.

    Raises:
        ValueError: a class that is not there, fewer than two ends or steps of an interpolation, no truncation above 0.
    """
    if not truncation > 0:
        raise ValueError(f"truncation: expected more than 0, got {truncation}")
    if steps < 2:
        raise ValueError(f"steps: expected at least 2, got {steps}")
    known = len(trained.class_names)
    classes = list(range(min(10, known)) if classes is None else classes)
    if unknown := [label for label in classes if label >= known]:
        raise ValueError(f"classes: expected numbers below {known}, got {', '.join(map(str, unknown))}")
    ends = {"z": ("seeds", seeds), "class": ("classes", classes)}.get(interpolate)
    if ends and len(ends[1]) < 2:
        raise ValueError(f"{ends[0]}: expected two or more to go from one to the next, got {ends[1][0]}")
    noise = [draw_noise(trained.network, 1, random_generator(seed, "sample")) for seed in seeds]
    z = torch.cat([one.z for one in noise]) * truncation
    elements = None if noise[0].elements is None else torch.cat([one.elements for one in noise])
    embeddings = trained.network.embed(torch.tensor(classes))
    if interpolate == "z":
        z = along(z, steps, slerp)
        elements = None if elements is None else elements[:1].expand(len(z))
    elif interpolate == "class":
        embeddings = along(embeddings, steps, torch.lerp)
    rows = grid(trained, z, elements, embeddings)
    return rows.transpose(0, 1) if interpolate == "class" else rows


def sheet_file(
    run: Path, trained: TrainedGenerator, out: Path | None = None, *, truncation: float = 1.0,
    interpolate: str | None = None,
) -> Path:  # fmt: skip
    """Where a sheet of a run's samples goes: to ``out``, or into its folder ``samples``, named after what it shows.

    Raises:
        ValueError: ``out`` is the name of another kind of file than PNG.
    """
    if out:
        if out.suffix.lower() != ".png":
            raise ValueError(f"out: expected a file name that ends in .png, got {out}")
        return out
    if isinstance(trained.network, Translator):
        shown = "pairs"
    else:
        shown = f"seeds-{interpolate or 'classes'}" + ("" if truncation == 1 else f"-truncation{truncation:g}")
    return run / "samples" / f"{shown}-{trained.iteration:08d}.png"


def write_rows(path: Path, rows: torch.Tensor, *, gif: bool = False) -> None:
    """Images uint8 ``[rows, columns, H, W, C]`` as a PNG; ``gif``: also column after column as an animation."""
    write_picture(path, enlarged(sheet(rows.flatten(0, 1), rows.shape[1])))
    if gif:
        write_gif(path.with_suffix(".gif"), [enlarged(sheet(column, len(column))) for column in rows.transpose(0, 1)])


def sample_translations(trained: TrainedGenerator, root: str | None, numbers: Sequence[int]) -> Image.Image:
    """A sheet of map, translation and photograph, a row per validation pair.

    Args:
        root: of the data set; where the run found it unless given.
        numbers: of the pairs.

    Raises:
        ValueError: a pair that is not there.
    """
    options = trained.options
    size = trained.network.image_shape[1]
    pairs = data.load(options.dataset, root or options.data, split="validation", resolution=size)
    if unknown := [number for number in numbers if number >= len(pairs)]:
        raise ValueError(f"pairs: expected numbers below {len(pairs)}, got {', '.join(map(str, unknown))}")
    return sheet_of_translations(trained.network, *pairs.batch(numbers), "cpu")


def sheet_of_translations(translator: Translator, maps, photographs, device) -> Image.Image:
    """Rows of map, translation and photograph, from uint8 ``[N, H, W, C]``; the translator is on ``device``."""
    translations = to_uint8(translator.translate(to_tensor(maps.to(device)))).cpu()
    return sheet(torch.stack([maps, translations, photographs], dim=1).flatten(0, 1), 3)


@torch.no_grad()
def grid(trained: TrainedGenerator, z, elements, embeddings) -> torch.Tensor:
    """uint8 ``[R, S, H, W, C]``: for R class embeddings and S noise vectors."""
    rows = []
    for embedding in embeddings:
        images = trained.network(z, embedding=embedding.expand(len(z), -1), elements=elements)
        rows.append(to_uint8(images))
    return torch.stack(rows)


def along(points: torch.Tensor, steps: int, between) -> torch.Tensor:
    """From each point ``[N, D]`` to the next in so many steps, the ends included: ``[(N - 1) * steps + 1, D]``."""
    path = [between(start, end, step / steps) for start, end in pairwise(points) for step in range(steps)]
    return torch.stack([*path, points[-1]])


def slerp(start: torch.Tensor, end: torch.Tensor, share: float) -> torch.Tensor:
    """Between two vectors at a constant angular speed (Shoemake 1985), which keeps the noise's typical length."""
    cosine = torch.dot(start, end) / (start.norm() * end.norm())
    angle = torch.arccos(cosine.clamp(-1, 1))
    if angle < 1e-4:
        return torch.lerp(start, end, share)
    return (torch.sin((1 - share) * angle) * start + torch.sin(share * angle) * end) / torch.sin(angle)
