"""What the parsers of several commands have in common."""

from __future__ import annotations

import argparse
from pathlib import Path


def parser_of(verb: str, description: str, *parents: argparse.ArgumentParser, **settings) -> argparse.ArgumentParser:
    """The parser of ``python -m gan.VERB``, with the arguments of its parents and a description shown as it stands."""
    return argparse.ArgumentParser(
        prog=f"python -m gan.{verb}", description=description, parents=parents,
        formatter_class=argparse.RawDescriptionHelpFormatter, **settings,
    )  # fmt: skip


def of_a_run() -> argparse.ArgumentParser:
    """A parent of the parsers of commands that work on one run: --run and --checkpoint."""
    result = argparse.ArgumentParser(add_help=False, parents=[of_a_checkpoint()])
    result.add_argument("--run", type=Path, required=True, help="the run's folder")
    return result


def of_a_checkpoint() -> argparse.ArgumentParser:
    """A parent with --checkpoint."""
    result = argparse.ArgumentParser(add_help=False)
    result.add_argument("--checkpoint", default="best", choices=("best", "latest"), help="which one (%(default)s)")
    return result


def of_images() -> argparse.ArgumentParser:
    """A parent with --data and --resolution, which say where the images of a data set are and how large."""
    result = argparse.ArgumentParser(add_help=False)
    result.add_argument("--data", type=Path, help="the data set's folder (default: ./data)")
    result.add_argument("--resolution", type=int, help="height and width of the images (default: the data set's)")
    return result


def of_a_device() -> argparse.ArgumentParser:
    """A parent with --device."""
    result = argparse.ArgumentParser(add_help=False)
    result.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto: cuda if there is one")
    return result


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
