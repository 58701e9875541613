"""Draw samples of a run: ``python -m gan.sample --run DIR --seeds 0-9``."""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import torch

from . import data
from .data import to_uint8
from .files import print_any_name
from .networks import Translator
from .noise import draw_noise
from .runs import TrainedGenerator, load_generator
from .training.pictures import enlarged, sheet, write_gif, write_picture
from .training.randomness import generator as random_generator
from .training.run_folder import RunError
from .training.translation import sheet_of_translations


def main(arguments: list[str] | None = None) -> int:
    print_any_name()
    parser = argparse.ArgumentParser(prog="python -m gan.sample", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--checkpoint", default="best", choices=("best", "latest"), help="(%(default)s)")
    parser.add_argument("--out", type=Path, help="the PNG file; in the run's samples folder unless given")
    noise = parser.add_argument_group("runs that make images from noise and a class")
    noise.add_argument("--seeds", type=numbers, default=numbers("0-9"), help="one column each: 0-9 or 1,4,7 (0-9)")
    noise.add_argument("--classes", type=numbers, help="one row each: 0-9 or 1,4,7 (the first ten)")
    noise.add_argument("--truncation", type=float, default=1.0, help="standard deviation of the noise (%(default)s)")
    noise.add_argument(
        "--interpolate",
        choices=("z", "class"),
        help="z: from seed to seed along the sphere, a row per class; class: from class to class, a row per seed",
    )
    noise.add_argument("--steps", type=int, default=8, help="pictures from one end to the next (%(default)s)")
    noise.add_argument("--gif", action="store_true", help="also write an interpolation as an animation beside it")
    pairs = parser.add_argument_group("runs that translate maps")
    pairs.add_argument("--pairs", type=numbers, default=numbers("0-9"), help="validation pairs, one row each (0-9)")
    pairs.add_argument("--data", help="the data set's root, if it is not where the run found it")
    given = parser.parse_args(arguments)
    if not given.truncation > 0:
        parser.error(f"--truncation: expected more than 0, got {given.truncation}")
    if given.steps < 2:
        parser.error(f"--steps: expected at least 2, got {given.steps}")
    if given.out and given.out.suffix.lower() != ".png":
        parser.error(f"--out: expected a file name that ends in .png, got {given.out}")
    if given.gif and not given.interpolate:
        parser.error("--gif: only an interpolation can be animated")
    try:
        path = sample(given)
    except (RunError, data.DataError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(path)
    return 0


def sample(given: argparse.Namespace) -> Path:
    """Write the sheet and return its path."""
    trained = load_generator(given.run, given.checkpoint)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(trained.network, Translator):
        return sample_translations(given, trained)
    known = len(trained.class_names)
    classes = given.classes if given.classes is not None else list(range(min(10, known)))
    if unknown := [label for label in classes if label >= known]:
        raise ValueError(f"classes: expected numbers below {known}, got {', '.join(map(str, unknown))}")
    ends = {"z": ("seeds", given.seeds), "class": ("classes", classes)}.get(given.interpolate)
    if ends and len(ends[1]) < 2:
        raise ValueError(f"{ends[0]}: expected two or more to go from one to the next, got {ends[1][0]}")
    noise = [draw_noise(trained.network, 1, random_generator(seed, "sample")) for seed in given.seeds]
    z = torch.cat([one.z for one in noise]) * given.truncation
    elements = None if noise[0].elements is None else torch.cat([one.elements for one in noise])
    embeddings = trained.network.embed(torch.tensor(classes))
    if given.interpolate == "z":
        z = along(z, given.steps, slerp)
        elements = None if elements is None else elements[:1].expand(len(z))
    elif given.interpolate == "class":
        embeddings = along(embeddings, given.steps, torch.lerp)
    rows = grid(trained, z, elements, embeddings)
    if given.interpolate == "class":
        rows = rows.transpose(0, 1)
    truncation = "" if given.truncation == 1 else f"-truncation{given.truncation:g}"
    name = f"seeds-{given.interpolate or 'classes'}{truncation}-{trained.iteration:08d}.png"
    path = given.out or given.run / "samples" / name
    write_picture(path, enlarged(sheet(rows.flatten(0, 1), rows.shape[1])))
    if given.gif:
        frames = [enlarged(sheet(column, len(column))) for column in rows.transpose(0, 1)]
        write_gif(path.with_suffix(".gif"), frames)
    return path


def sample_translations(given: argparse.Namespace, trained: TrainedGenerator) -> Path:
    """Write a sheet of map, translation and photograph, a row per pair, and return its path."""
    for name in ("classes", "interpolate"):
        if getattr(given, name) is not None:
            raise ValueError(f"{name}: this run translates maps, it has neither classes nor noise")
    options = trained.options
    root, size = given.data or options.data, trained.network.image_shape[1]
    pairs = data.load(options.dataset, root, split="validation", resolution=size)
    if unknown := [pair for pair in given.pairs if pair >= len(pairs)]:
        raise ValueError(f"pairs: expected numbers below {len(pairs)}, got {', '.join(map(str, unknown))}")
    path = given.out or given.run / "samples" / f"pairs-{trained.iteration:08d}.png"
    write_picture(path, sheet_of_translations(trained.network, *pairs.batch(given.pairs), "cpu"))
    return path


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


def numbers(text: str) -> list[int]:
    """ "0-3,7" -> [0, 1, 2, 3, 7]."""
    found = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise argparse.ArgumentTypeError(f"expected numbers such as 0-9 or 1,4,7, got {text!r}")
        found.extend(range(int(first), int(last or first) + 1))
    if not found:
        raise argparse.ArgumentTypeError(f"expected at least one number, got {text!r}")
    return found


if __name__ == "__main__":
    sys.exit(main())
