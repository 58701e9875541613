"""Prepare a data set before training, or show it: ``python -m gan.data prepare | show``."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from gan.commands._arguments import of_images, parser_of
from gan.commands._errors import reported
from gan.data import DATASETS, anhir, load, prepare_both
from gan.data.reals import write_reals


def parser() -> argparse.ArgumentParser:
    result = parser_of("data", __doc__)
    commands = result.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False, parents=[of_images()])
    common.add_argument("--dataset", required=True, choices=DATASETS)

    command = commands.add_parser("prepare", parents=[common], help="download, verify, decode")
    command.add_argument("--out", type=Path, help="where the prepared images go, later --data (default: DATA/prepared)")
    command.add_argument("--skip-unreadable", action="store_true", help="leave out files that cannot be decoded")
    command.add_argument("--patch-size", type=int, help=f"anhir: size of the patches in slide pixels ({anhir.PATCH})")
    command.add_argument("--stride", type=int, help="anhir: from patch to patch; below the patch size they overlap")

    command = commands.add_parser("show", parents=[common], help="class counts and a sheet of reals")
    command.add_argument("--split", default="train", choices=["train", "validation"])
    command.add_argument("--out", type=Path, default=Path("reals.png"), help="the sheet, one class per row")
    return result


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.command == "show":
        return reported(lambda: show(options))
    if options.out is None and (options.patch_size, options.stride) != (None, None):
        parser().error("--patch-size and --stride need --out, the folder to give to --data afterwards")
    return reported(lambda: get_ready(options))


def get_ready(options: argparse.Namespace) -> None:
    for images in prepare_both(
        options.dataset, options.data, options.out, resolution=options.resolution,
        skip_unreadable=options.skip_unreadable, patch_size=options.patch_size, stride=options.stride,
    ):  # fmt: skip
        print(images.summary())


def show(options: argparse.Namespace) -> None:
    images = load(options.dataset, options.data, split=options.split, resolution=options.resolution)
    print(images.summary())
    write_reals(options.out, images)
    print(f"reals: {options.out}")


if __name__ == "__main__":
    sys.exit(main())
