"""Compare the classifiers that ``gan.classify --outdir DIR`` trained: ``python -m gan.compare --runs DIR``.

Prints a table of mean and standard deviation over the seeds, and draws into DIR: accuracy against the number of
orientations and against the share of the training images, and the score of one image under a full turn.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gan.classifiers.comparison import compare
from gan.commands._arguments import parser_of
from gan.commands._errors import reported


def main(arguments: list[str] | None = None) -> int:
    parser = parser_of("compare", __doc__)
    parser.add_argument("--runs", type=Path, required=True, help="the --outdir of gan.classify")
    parser.add_argument("--data", type=Path, help="as for gan.classify")
    parser.add_argument("--image", type=int, default=0, help="which validation image is rotated (%(default)s)")
    parser.add_argument("--out", type=Path, help="folder of the table and the pictures (default: DIR)")
    options = parser.parse_args(arguments)
    out = options.out or options.runs

    def run() -> None:
        table, images = compare(options.runs, options.data, out, options.image)
        print(f"{table}\n\nswing: highest minus lowest probability of the right class under a full turn,")
        print(f"mean over the first {images} validation images. The table and the pictures are in {out}")

    return reported(run)


if __name__ == "__main__":
    sys.exit(main())
