"""Test whether the distribution of a generator's images is invariant: ``python -m gan.invariance --run DIR``.

Images are compared with other images of the same generator, each moved by a random element of its group. The two
samples have the same distribution if and only if the generator's is invariant; with ``--generator-symmetry full`` it
always is.
"""

from __future__ import annotations

import sys

import gcnn_kernels as gk
from gan.commands._arguments import of_a_run, parser_of
from gan.commands._errors import reported
from gan.metrics.invariance import invariance_test
from gan.networks import Generator
from gan.runs import load_generator

#: below this p-value the command calls the distribution not invariant
LEVEL = 0.01


def main(arguments: list[str] | None = None) -> int:
    parser = parser_of("invariance", __doc__, of_a_run())
    parser.add_argument(
        "--group", choices=("p4", "p4m"), help="to test (default: what of the generator's group permutes pixels)"
    )
    parser.add_argument("--samples", type=int, default=1000, help="images on each side (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (%(default)s)")
    options = parser.parse_args(arguments)

    def run() -> None:
        network = load_generator(options.run, options.checkpoint).network
        if not isinstance(network, Generator):
            raise ValueError(f"run: {options.run} translates images, it has no distribution of its own")
        own = gk.point_group(network.group).grid_subgroup.name
        group = options.group or ("p4" if own == "p1" else own)
        p = invariance_test(network, group, samples=options.samples, seed=options.seed)
        verdict = "is not invariant" if p < LEVEL else "may be invariant"
        print(f"{network.symmetry} {network.group} generator: its distribution {verdict} under {group}: p = {p:.3f}")

    return reported(run)


if __name__ == "__main__":
    sys.exit(main())
