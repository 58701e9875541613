"""``python -m gan.networks``: the numbers of parameters of all presets, as in docs/networks.md."""

from __future__ import annotations

import argparse

from .sizes import ablation_table

parser = argparse.ArgumentParser(prog="python -m gan.networks", description="Print the sizes of all networks.")
parser.add_argument("--width", type=float, default=1.0, help="factor of all widths")
print(ablation_table(**vars(parser.parse_args())))
