"""Prepare a data set before training, or show it: ``python -m gan.data prepare | show``."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from gan.commands._errors import reported
from gan.common.pictures import sheet, write_picture
from gan.data import DATASETS, DEFAULT_ROOT, load, prepare
from gan.data.anhir import PATCH
from gan.data.imageset import some_of_each_class

COLUMNS, ROWS = 12, 10


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m gan.data", description=__doc__)
    commands = result.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--dataset", required=True, choices=DATASETS)
    common.add_argument("--data", type=Path, default=DEFAULT_ROOT, help="the data set's folder (default: ./data)")
    common.add_argument("--resolution", type=int, help="height and width of the images (default: the data set's)")

    command = commands.add_parser("prepare", parents=[common], help="download, verify, decode")
    command.add_argument("--out", type=Path, help="where the prepared images go, later --data (default: DATA/prepared)")
    command.add_argument("--skip-unreadable", action="store_true", help="leave out files that cannot be decoded")
    command.add_argument("--patch-size", type=int, help=f"anhir: size of the patches in slide pixels ({PATCH})")
    command.add_argument("--stride", type=int, help="anhir: from patch to patch; below the patch size they overlap")

    command = commands.add_parser("show", parents=[common], help="class counts and a sheet of reals")
    command.add_argument("--split", default="train", choices=["train", "validation"])
    command.add_argument("--out", type=Path, default=Path("reals.png"), help="the sheet, one class per row")
    return result


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe = {}
    if options.command == "prepare":
        recipe = {key: getattr(options, key) for key in ("patch_size", "stride") if getattr(options, key) is not None}
        if recipe and options.dataset != "anhir":
            parser().error("--patch-size and --stride belong to --dataset anhir")
        if recipe and options.out is None:
            parser().error("--patch-size and --stride need --out, the folder to give to --data afterwards")
    return reported(lambda: prepare_both(options, recipe) if options.command == "prepare" else show(options))


def prepare_both(options: argparse.Namespace, recipe: dict) -> None:
    """Both splits."""
    for split in ("train", "validation"):
        images = prepare(
            options.dataset, options.data, options.out, split=split, resolution=options.resolution,
            skip_unreadable=options.skip_unreadable, **recipe,
        )  # fmt: skip
        if images.split == split:
            print(images.summary())


def show(options: argparse.Namespace) -> None:
    """A summary and a sheet."""
    images = load(options.dataset, options.data, split=options.split, resolution=options.resolution)
    print(images.summary())
    options.out.parent.mkdir(parents=True, exist_ok=True)
    shown = some_of_each_class(images.labels, len(images.class_names), ROWS, COLUMNS)
    write_picture(options.out, sheet(images.pictures(shown), COLUMNS, border=0))
    print(f"reals: {options.out}")


if __name__ == "__main__":
    sys.exit(main())
