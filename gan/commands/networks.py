"""Print the parameter counts of all presets, as in docs/networks.md: ``python -m gan.networks``."""

from __future__ import annotations

import sys

from gan.commands._arguments import parser_of
from gan.commands._errors import reported
from gan.networks.sizes import ablation_table


def main(arguments: list[str] | None = None) -> int:
    parser = parser_of("networks", __doc__)
    parser.add_argument("--width", type=float, default=1.0, help="factor on the channels of every layer (%(default)s)")
    width = parser.parse_args(arguments).width
    return reported(lambda: print(ablation_table(width=width)))


if __name__ == "__main__":
    sys.exit(main())
