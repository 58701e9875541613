"""Draw samples of a run: ``python -m gan.sample --run DIR --seeds 0-9``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gan.commands._arguments import numbers, of_a_run, parser_of
from gan.commands._errors import reported
from gan.common.pictures import write_picture
from gan.networks import Translator
from gan.runs import load_generator
from gan.runs.sampling import sample_images, sample_translations, sheet_file, write_rows


def parser() -> argparse.ArgumentParser:
    result = parser_of("sample", __doc__, of_a_run())
    result.add_argument("--out", type=Path, help="PNG file to write (default: in the run's samples folder)")
    noise = result.add_argument_group("runs that make images from noise and a class")
    noise.add_argument("--seeds", type=numbers, default=numbers("0-9"), help="one column each: 0-9 or 1,4,7 (0-9)")
    noise.add_argument("--classes", type=numbers, help="one row each: 0-9 or 1,4,7 (the first ten)")
    noise.add_argument("--truncation", type=float, default=1.0, help="standard deviation of the noise (%(default)s)")
    noise.add_argument(
        "--interpolate", choices=("z", "class"),
        help="z: from seed to seed along the sphere, a row per class; class: from class to class, a row per seed",
    )  # fmt: skip
    noise.add_argument("--steps", type=int, default=8, help="images from one seed or class to the next (%(default)s)")
    noise.add_argument("--gif", action="store_true", help="also write the interpolation as an animation next to it")
    pairs = result.add_argument_group("runs that translate maps")
    pairs.add_argument("--pairs", type=numbers, default=numbers("0-9"), help="validation pairs, one row each (0-9)")
    pairs.add_argument("--data", help="the data set's folder, if it is not where the run found it")
    return result


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if options.gif and not options.interpolate:
        parser().error("--gif: only an interpolation can be animated")
    return reported(lambda: print(sample(options)))


def sample(options: argparse.Namespace) -> Path:
    """Write the sheet, and the animation if asked for; returns the sheet's path."""
    trained = load_generator(options.run, options.checkpoint)
    shown = {"truncation": options.truncation, "interpolate": options.interpolate}
    path = sheet_file(options.run, trained, options.out, **shown)
    if isinstance(trained.network, Translator):
        for name in ("classes", "interpolate"):
            if getattr(options, name) is not None:
                raise ValueError(f"{name}: this run translates maps, it has neither classes nor noise")
        write_picture(path, sample_translations(trained, options.data, options.pairs))
    else:
        rows = sample_images(trained, options.seeds, options.classes, steps=options.steps, **shown)
        write_rows(path, rows, gif=options.gif)
    return path


if __name__ == "__main__":
    sys.exit(main())
