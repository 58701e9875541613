"""Train a GAN of the paper: ``python -m gan.train --dataset digits``. Running the same command again resumes."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields

from gan.commands._errors import reported
from gan.data import DATASETS
from gan.options import CHOICES, Options, resolve
from gan.training.loop import Stopped
from gan.training.start import describe, train


def parser() -> argparse.ArgumentParser:
    """One argument per option, and --dry-run."""
    result = argparse.ArgumentParser(
        prog="python -m gan.train",
        description="Train a GAN of the paper. Running the same command again resumes.",
        epilog="Defaults depend on the preset and the loss; --dry-run prints them.",
        argument_default=argparse.SUPPRESS,
    )
    kinds = {"int": int, "float": float, "str": str, "str | None": str}
    for option in fields(Options):
        flag = f"--{option.name.replace('_', '-')}"
        text = option.metadata["help"].replace("%", "%%")
        if option.type == "bool":
            result.add_argument(flag, action="store_true", help=text)
        else:
            choices = tuple(DATASETS) if option.name == "dataset" else CHOICES.get(option.name)
            result.add_argument(flag, type=kinds[option.type], choices=choices, help=text)
    result.add_argument("--dry-run", action="store_true", default=False, help="print every option and stop")
    return result


def main(arguments: list[str] | None = None) -> int:
    given = vars(parser().parse_args(arguments))
    dry_run = given.pop("dry_run")

    def run() -> int:
        options = resolve(given)
        if dry_run:
            print(describe(options))
            return 0
        try:
            train(options)
        except Stopped as stop:
            print(stop, file=sys.stderr)
            return 128 + stop.signal_number
        return 0

    return reported(run)


if __name__ == "__main__":
    sys.exit(main())
