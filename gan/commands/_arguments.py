"""Arguments that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path


def of_a_run() -> argparse.ArgumentParser:
    """A parent of the parsers of commands that work on one run: --run and --checkpoint."""
    result = argparse.ArgumentParser(add_help=False)
    result.add_argument("--run", type=Path, required=True, help="the run's folder")
    result.add_argument("--checkpoint", default="best", choices=("best", "latest"), help="which one (%(default)s)")
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
